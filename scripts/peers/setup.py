#!/usr/bin/env python3
"""Make the Python environments of the programs that Pressroom is measured beside, into .deps/peers/, from PyPI.

usage: scripts/peers/setup.py [kvpress] [openvino]        default: both

Versions are pinned in requirements-NAME.txt. kvpress takes 5 GB on disk (its torch brings CUDA along), OpenVINO 0.3 GB.
An environment that is complete is left alone.
"""
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent.parent / ".deps" / "peers"


def say(text):
    print(f"peers: {text}", file=sys.stderr, flush=True)


def environment(name):
    """The environment's Python."""
    pinned, home = HERE / f"requirements-{name}.txt", PEERS / name
    python, stamp = home / "bin" / "python", home / "complete"
    if stamp.is_file() and stamp.read_text() == pinned.read_text():
        return python
    say(f"installing {name} into {home}")
    venv.create(home, with_pip=True, clear=True)
    command = [python, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
    if subprocess.run(command + ["--requirement", pinned], check=False).returncode != 0:
        sys.exit(f"peers: pip could not install {name}; run the same command again once the package index answers")
    stamp.write_text(pinned.read_text())
    return python


if __name__ == "__main__":
    known = sorted(path.stem.removeprefix("requirements-") for path in HERE.glob("requirements-*.txt"))
    wanted = sys.argv[1:] or known
    if unknown := [name for name in wanted if name not in known]:
        sys.exit(f"peers: unknown peer {unknown[0]}; there are {', '.join(known)}")
    for name in wanted:
        say(f"{name} is ready: {environment(name)}")
