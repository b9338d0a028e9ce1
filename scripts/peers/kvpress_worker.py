"""kvpress on transformers, for bench_reference.py.

usage: kvpress_worker.py MODEL_FOLDER DTYPE THREADS

A line of standard input, {"vocabulary": N, "context": N, "new_tokens": N, "press": NAME or null}, is answered by one of
output with prefill_s, decode_tokens_per_s, cache_bytes and first_token (what follows the context and one token more).
"""

import contextlib
import json
import logging
import os
import sys
import time

os.environ["TQDM_DISABLE"] = os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = os.environ["HF_HUB_OFFLINE"] = "1"
import kvpress  # noqa: E402
import torch  # noqa: E402
from transformers import AutoModelForCausalLM, DynamicCache  # noqa: E402

PRESSES = {"adakv": lambda: kvpress.AdaKVPress(kvpress.KnormPress(0.5))}


@torch.no_grad()
def measure(model, vocabulary, context, new_tokens, press):
    ids = torch.arange(context + 1) * 7919 % vocabulary
    cache = DynamicCache()
    start = time.perf_counter()
    with PRESSES[press]()(model) if press else contextlib.nullcontext():
        model.model(input_ids=ids[None, :-1], past_key_values=cache)
    prefilled = time.perf_counter()
    tokens, seconds = [ids[None, -1:]], []
    for position in range(context, context + new_tokens + 1):
        begun = time.perf_counter()
        logits = model(input_ids=tokens[-1], past_key_values=cache, position_ids=torch.tensor([[position]])).logits
        tokens.append(logits[:, -1:].argmax(-1))
        seconds.append(time.perf_counter() - begun)
    for layer in model.model.layers:
        layer.self_attn.masked_key_indices = None
    step = sorted(seconds[1:])[new_tokens // 2]
    cache_bytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    return {
        "prefill_s": prefilled - start,
        "decode_tokens_per_s": 1 / step,
        "cache_bytes": cache_bytes,
        "first_token": tokens[1].item(),
    }


def main(folder, dtype, threads):
    logging.disable(logging.WARNING)
    torch.set_num_threads(int(threads))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="sdpa").eval()
    for line in sys.stdin:
        print(json.dumps(measure(model, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
