"""OpenVINO GenAI, for bench_reference.py.

usage: openvino_worker.py FILE.gguf PRECISION THREADS

PRECISION is that of arithmetic and cache, f32 or bf16. It reads GGUF files, not safetensors: FILE, named ..F16.gguf, is
written on the first use from the ..Q4_1.gguf beside it. Lines are those of kvpress_worker.py; there are no presses.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy
import openvino
import openvino_genai


def write_f16(source: Path, target: Path):
    """The same model with its matrices in float16."""
    reader = gguf.GGUFReader(source)
    partial = target.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        value, kind = field.contents(), field.types[0]
        if field.name == "general.file_type":
            value = int(gguf.LlamaFileType.MOSTLY_F16)
        writer.add_key_value(field.name, value, kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        data = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, data.astype(numpy.float16 if data.ndim > 1 else numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(target)


def load(path: Path, precision, threads):
    if not path.is_file():
        write_f16(path.with_name(path.name.replace("F16", "Q4_1")), path)
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size, scheduler.max_num_batched_tokens, scheduler.enable_prefix_caching = 1, 16384, False
    options = {"INFERENCE_PRECISION_HINT": precision, "KV_CACHE_PRECISION": precision}
    return openvino_genai.LLMPipeline(
        str(path), "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=int(threads), **options
    )


def measure(pipeline, vocabulary, context, new_tokens, press):
    ids = (numpy.arange(context + 1, dtype=numpy.int64) * 7919 % vocabulary)[None]
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens, config.ignore_eos, config.do_sample = new_tokens + 1, True, False
    config.apply_chat_template = False
    inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
    result = pipeline.generate(inputs, config)
    metrics = result.perf_metrics
    return {
        "prefill_s": metrics.get_ttft().mean / 1000,
        "decode_tokens_per_s": 1000 / metrics.get_tpot().mean,
        "cache_bytes": None,
        "first_token": result.tokens[0][0],
    }


def main(path, precision, threads):
    pipeline = load(Path(path), precision, threads)
    for line in sys.stdin:
        print(json.dumps(measure(pipeline, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
