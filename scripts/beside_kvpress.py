"""Runs one sweep in kvpress and in Pressroom: the same model, prompts, number format and threads. Prints how much sooner
Pressroom is done and how many answers are the same.

usage: python3 scripts/beside_kvpress.py --python PYTHON --model FOLDER [--pressroom PATH] [--samples 20]
       [--context 2048] [--presses 8] [--ratios 0.2 0.4 0.6 0.8] [--threads 2] [--dtype f32] [--folder FOLDER]

PYTHON has kvpress 0.5.5 installed; this script needs nothing but the standard library and sets nothing up. The prompts
are written to FOLDER/prompts.jsonl, which both read. What kvpress has answered already stays in FOLDER/reference.jsonl
with its times, and is not computed again.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time

# Deterministic presses that run in kvpress with transformers 5.2 (pyramidkv does not: its layers keep different numbers): the
# name with how kvpress makes it, and Pressroom's TOML.
PRESSES = {
    "knorm": ("K.KnormPress(r)", "name = 'knorm'"),
    "streaming_llm": ("K.StreamingLLMPress(r)", "name = 'streaming_llm'"),
    "snapkv": ("K.SnapKVPress(r)", "name = 'snapkv'"),
    "expected_attention": ("K.ExpectedAttentionPress(r)", "name = 'expected_attention'"),
    "adakv": (
        "K.AdaKVPress(K.ExpectedAttentionPress(r, epsilon=1e-2))",
        "name = 'adakv'\npress = { name = 'expected_attention', epsilon = 0.01 }",
    ),
    "tova": ("K.TOVAPress(r)", "name = 'tova'"),
    "lagkv": ("K.LagKVPress(r)", "name = 'lagkv'"),
    "keydiff": ("K.KeyDiffPress(r)", "name = 'keydiff'"),
}

WORDS = {
    "who": "Amara Bertil Chiara Dmitri Elif Farid Greta Hiro Ines Jonas Katya Lorenzo".split(),
    "what": "ladder notebook lamp violin map kettle barrel clock umbrella ledger rope basket".split(),
    "where": "harbour orchard bakery archive mill quarry theatre station workshop ferry market".split(),
    "did": "carried repaired hid sold measured cleaned described found moved painted weighed".split(),
}


def prompts(samples, characters):
    """Prose with a number in it that is asked for afterwards."""
    draw = random.Random(42)
    for _ in range(samples):
        place, number = draw.choice(WORDS["where"]), draw.randint(10_000, 99_999)
        sentences = []
        while sum(map(len, sentences)) < characters:
            one = {kind: draw.choice(words) for kind, words in WORDS.items()}
            sentences.append("{who} {did} the {what} behind the {where} before anyone was awake. ".format(**one))
        sentences.insert(draw.randint(0, len(sentences)), f"The secret number of the {place} is {number}. ")
        question = f"\n\nWhat is the secret number of the {place}?"
        yield {"context": "".join(sentences), "question": question, "answer": [str(number)], "max_new_tokens": 24}


def read(path):
    if not os.path.exists(path):
        return []
    with open(path) as lines:
        return [json.loads(line) for line in lines if line.endswith("\n")]


def reference(folder, options):
    """The part that PYTHON runs: one call of kvpress's pipeline for each press, ratio and prompt."""
    os.environ["TQDM_DISABLE"] = "1"
    import torch
    import kvpress as K  # noqa: F401, named in PRESSES
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    torch.set_num_threads(options.threads)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[options.dtype]
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype, attn_implementation="sdpa").eval()
    pipe = pipeline("kv-press-text-generation", model=model, tokenizer=tokenizer)
    rows, path = read(f"{folder}/prompts.jsonl"), f"{folder}/reference.jsonl"
    done = {(one["press"], one["ratio"], one["index"]) for one in read(path)}
    with open(path, "a") as out:
        for index, row in enumerate(rows):
            for press in list(PRESSES)[: options.presses]:
                for ratio in options.ratios:
                    if (press, ratio, index) in done:
                        continue
                    start, cpu = time.perf_counter(), time.process_time()
                    made = eval(PRESSES[press][0], {"K": K, "r": ratio})
                    answer = pipe(
                        row["context"], question=row["question"], press=made, max_new_tokens=row["max_new_tokens"]
                    )["answer"]
                    times = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
                    one = {"press": press, "ratio": ratio, "index": index, "prediction": answer, **times}
                    out.write(json.dumps(one) + "\n")
                    out.flush()


def ours(folder, options):
    """Seconds of the whole process, loading included, those of its threads together, and its answers."""
    tables = "".join(
        f"[[press]]\nlabel = '{name}'\n{toml}\n" for name, (_, toml) in list(PRESSES.items())[: options.presses]
    )
    output = f"{folder}/pressroom"
    subprocess.run(["rm", "-rf", output], check=True)
    with open(f"{folder}/run.toml", "w") as file:
        file.write(
            f"[model]\npath = {json.dumps(options.model)}\ndtype = '{options.dtype}'\n"
            f"[task]\nfile = {json.dumps(folder + '/prompts.jsonl')}\n{tables}"
            f"[sweep]\ncompression_ratio = {options.ratios}\n"
            f"[run]\noutput = {json.dumps(output)}\nbaseline = false\nthreads = {options.threads}\n"
        )
    start = time.perf_counter()
    subprocess.run([options.pressroom, "run", f"{folder}/run.toml"], check=True, stdout=subprocess.DEVNULL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, read(f"{output}/answers.jsonl")


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--python", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pressroom", default="target/release/pressroom")
    parser.add_argument("--folder", default="runs/beside-kvpress")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    for name, default in [("samples", 20), ("context", 2048), ("presses", len(PRESSES)), ("threads", 2)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.2, 0.4, 0.6, 0.8])
    parser.add_argument("--only-reference", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.model, folder = os.path.abspath(options.model), os.path.abspath(options.folder)
    if options.only_reference:
        return reference(folder, options)
    os.makedirs(folder, exist_ok=True)
    # A token of such prose has 4.7 characters.
    rows = [json.dumps(row) + "\n" for row in prompts(options.samples, int(options.context * 4.7))]
    with open(f"{folder}/prompts.jsonl", "w") as file:
        file.writelines(rows)
    seconds, cpu_seconds, answers = ours(folder, options)
    subprocess.run([options.python, __file__, "--only-reference", *sys.argv[1:]], check=True)
    there = {(one["press"], one["ratio"], one["index"]): one for one in read(f"{folder}/reference.jsonl")}
    pairs = [(one, there[one["press"], one["ratio"], one["index"]]) for one in answers]
    theirs, cpu_theirs = (sum(other[kind] for _, other in pairs) for kind in ["seconds", "cpu_seconds"])
    tokens = sum(one["context_tokens"] for one, _ in pairs) / len(pairs)
    print(f"{options.presses} presses x {len(options.ratios)} ratios x {options.samples} samples of {tokens:.0f} tokens")
    print(f"kvpress   {theirs:8.1f} s, {cpu_theirs:8.1f} s of processor time, for its calls; loading not counted")
    print(f"pressroom {seconds:8.1f} s, {cpu_seconds:8.1f} s of processor time, for the process; loading counted")
    print(f"pressroom is done {theirs / seconds:.1f} times sooner, on {cpu_theirs / cpu_seconds:.1f} times less work")
    for name in list(PRESSES)[: options.presses]:
        own = [(one["prediction"].strip(), other["prediction"].strip()) for one, other in pairs if one["press"] == name]
        print(f"{name:20} {sum(mine == his for mine, his in own):4} of {len(own)} answers the same")


if __name__ == "__main__":
    main()
