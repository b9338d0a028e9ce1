#!/usr/bin/env python3
"""Check and measure Pressroom on this machine's GPU: needs Python's torch 2.11 (with CUDA 13), no Rust.

usage: run.py [--rehearse] [--model FOLDER] [--long TOKENS] [--output report.json]

--rehearse   do the same on the processor, to see that everything is there
--model      the model to measure; without it the one packed here. random_model.py makes one of any Llama shape.
--long       tokens of the context that is read once for several ratios, to see that memory is what was foretold
             (8192; 524288 with the shape of Llama-3.1-8B on a card of 80 GB)

Prints a JSON report, which `pressroom bench --show report.json` turns into tables.
"""
import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODEL = HERE / "models" / "smollm2-135m-instruct"
TORCH = "2.11."
CONTEXT = ("The bakery opens at six. The password of the lighthouse is marmalade. Ships pass at night, and the keeper "
           "sleeps by day. Nobody swims in the harbour in winter, because the water is cold and the stones are sharp.\n")
QUESTION = "What is the password of the lighthouse?"
SWEEP = """
[model]
path = "{model}"
device = "{device}"

[task]
name = "needle"
context_tokens = {tokens}
samples = 1
max_new_tokens = 8

[[press]]
name = "knorm"

[sweep]
compression_ratio = [0.75, 0.9, 0.95]

[run]
output = "{output}"
baseline = false
memory = "{memory}"
"""
# How far the memory that a run takes may be from what it foretold, as a share.
OFF = 0.03


def libraries():
    """The folder of torch's libraries."""
    found = importlib.util.find_spec("torch")
    if found is None:
        sys.exit(f"run.py: this Python has no torch; install torch {TORCH}x and run again with it")
    version = importlib.metadata.version("torch")
    if not version.startswith(TORCH):
        sys.exit(f"run.py: this Python has torch {version}; the binaries here are built with {TORCH}x")
    return Path(found.origin).parent / "lib", version


def run(command, environment, seconds):
    start = time.monotonic()
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
        code, output = done.returncode, done.stdout + done.stderr
        stdout = done.stdout
    except subprocess.TimeoutExpired as slow:
        code, output, stdout = None, f"not done after {slow.timeout} s", ""
    return {"ok": code == 0, "seconds": round(time.monotonic() - start, 1), "output": output[-4000:]}, stdout


def main():
    options = argparse.ArgumentParser(description="see the head of this file")
    options.add_argument("--rehearse", action="store_true")
    options.add_argument("--model", type=Path, default=MODEL)
    options.add_argument("--output", type=Path, default=HERE / "report.json")
    options.add_argument("--context", default="2048,32768")
    options.add_argument("--long", type=int)
    options = options.parse_args()
    folder, version = libraries()
    paths = [str(folder)] + [path for path in [os.environ.get("LD_LIBRARY_PATH")] if path]
    environment = os.environ | {
        "LD_LIBRARY_PATH": ":".join(paths),
        "PRESSROOM_LIBTORCH_CUDA": str(folder),
        "PRESSROOM_HOME": str(HERE),
    }
    if not options.rehearse:
        environment["PRESSROOM_GPU"] = "cuda:0"
    device = "cpu" if options.rehearse else "cuda:0"
    pressroom, tests = str(HERE / "pressroom"), str(HERE / "gpu-tests")
    checks = {}

    def check(name, command, seconds=1800):
        print(f"run.py: {name}", file=sys.stderr, flush=True)
        checks[name], stdout = run(command, environment, seconds)
        return stdout

    check("doctor", [pressroom, "doctor"])
    measured = check("kernels", [tests, "--test-threads=1", "--nocapture"])
    # The test program writes a test's name before its first line.
    starts = ((line, line.find('{"kernel"')) for line in measured.splitlines())
    rows = [json.loads(line[start:]) for line, start in starts if start >= 0]
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer and not options.rehearse:
        for tool in ("memcheck", "racecheck", "initcheck"):
            command = [sanitizer, "--tool", tool, "--error-exitcode", "1", tests, "processor", "--test-threads=1"]
            check(f"compute-sanitizer {tool}", command)

    text = HERE / "context.txt"
    text.write_text(CONTEXT * 20)
    ask = [pressroom, "ask", "--model", str(MODEL), "--context", str(text), "--question", QUESTION]
    ask += ["--dtype", "f32", "--max-new-tokens", "32", "--press", "knorm", "--ratio", "0.3"]
    answers = [check(f"an answer on {place}", ask + ["--device", place]) for place in ("cpu", device)]
    checks["answers in f32 are those of the processor"] = {"ok": answers[0] == answers[1] != "", "output": answers[1]}

    context = "256" if options.rehearse else options.context
    bench = [pressroom, "bench", "--model", str(options.model), "--device", device, "--json", "--batch", "1,8"]
    bench += ["--context", context, "--layout", "dense,half,ragged,int4"]
    bench += ["--rounds", "1", "--new-tokens", "4"] if options.rehearse else []
    told = check("bench", bench)
    tokens = options.long or (1024 if options.rehearse else 8192)
    experiment, output = HERE / "long.toml", HERE / "long"
    shutil.rmtree(output, ignore_errors=True)
    experiment.write_text(SWEEP.format(model=options.model.resolve(), device=device, tokens=tokens, output=output,
                                       memory="6GiB" if options.rehearse else "70GiB"))
    check("a long context at three ratios", [pressroom, "run", str(experiment)])
    held = json.loads((output / "memory.json").read_text()) if (output / "memory.json").is_file() else {}
    off = abs((held.get("measured") or 0) / held["predicted"] - 1) if held else 1.0
    # On the processor, libraries' own memory is a large part of so small a model's.
    checks["memory is what was foretold"] = {"ok": off <= OFF or (options.rehearse and bool(held)),
                                             "output": f"{tokens} tokens: {held}, off by {off:.1%}"}
    report = {
        "date": datetime.date.today().isoformat(),
        "device": device,
        "torch": version,
        "nvidia_smi": run(["nvidia-smi", "-L"], environment, 60)[0]["output"].strip() if shutil.which("nvidia-smi") else None,
        "checks": checks,
        "kernels": rows,
        "memory": {"context_tokens": tokens} | held if held.get("measured") else None,
        "bench": json.loads(told) if checks["bench"]["ok"] else None,
    }
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))
    failed = [name for name, outcome in checks.items() if not outcome["ok"]]
    sys.exit(f"run.py: failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
