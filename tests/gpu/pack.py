#!/usr/bin/env python3
"""Pack what checks and measures Pressroom on a machine with a GPU into one folder: binaries, model, scripts.

usage: tests/gpu/pack.py FOLDER [--profile release]

There, `python3 run.py` does the rest; it needs Python's torch 2.11, nvcc 13's tools only for compute-sanitizer, no Rust.
"""
import argparse
import json
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODEL = ROOT / ".deps" / "models" / "smollm2-135m-instruct"
# Megabytes of all but the model.
MOST = 64


def built(arguments, name):
    """Builds with cargo, and gives the binary called `name`."""
    command = ["cargo", *arguments, "--message-format=json-render-diagnostics"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    messages = [json.loads(line) for line in lines if line.startswith("{")]
    found = [message["executable"] for message in messages
             if message.get("executable") and message["target"]["name"] == name]
    return Path(found[-1])


def main():
    options = argparse.ArgumentParser(description="see the head of this file")
    options.add_argument("folder", type=Path)
    options.add_argument("--profile", default="release")
    options = options.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    profile = ["--profile", options.profile]
    binaries = {
        "pressroom": built(["build", *profile, "--bin", "pressroom"], "pressroom"),
        "gpu-tests": built(["test", *profile, "-p", "pressroom-kernels", "--test", "gpu", "--no-run"], "gpu"),
    }
    for name, path in binaries.items():
        subprocess.run(["strip", "-o", str(options.folder / name), str(path)], check=True)
    for name in ("run.py", "random_model.py"):
        shutil.copy(HERE / name, options.folder)
    size = sum(path.stat().st_size for path in options.folder.iterdir() if path.is_file()) / 1e6
    if size > MOST:
        raise SystemExit(f"pack.py: {size:.0f} MB without the model, {MOST} are allowed")
    shutil.copytree(MODEL, options.folder / "models" / MODEL.name, dirs_exist_ok=True)
    print(f"pack.py: {options.folder}: {size:.0f} MB, and the model")


if __name__ == "__main__":
    main()
