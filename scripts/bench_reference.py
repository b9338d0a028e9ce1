#!/usr/bin/env python3
"""Pressroom beside kvpress and OpenVINO GenAI on the same weights, in one run, as a Markdown page.

usage: bench_reference.py PRESSROOM [--threads N] [--rounds N] [--new-tokens N] [--context N ..] [--long N]

`make bench-reference` builds PRESSROOM and runs this. The peers' environments are made first (scripts/peers/setup.py).
All read the same made-up tokens and take turns: a round runs every setting on every program before the next begins.
Medians are shown, with the fastest and the slowest round. Where the processor has bf16 arithmetic, peers run in both
float32 and bf16.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEPS = HERE.parent / ".deps"
MODEL = DEPS / "models" / "smollm2-135m-instruct"


def say(text):
    print(f"bench-reference: {text}", file=sys.stderr, flush=True)


class Peer:
    """A worker of scripts/peers/ and what it runs on."""

    def __init__(self, name, peer, model, precision, threads, presses=()):
        self.name, self.presses = name, presses
        self.command = [DEPS / "peers" / peer / "bin" / "python", HERE / "peers" / f"{peer}_worker.py", model, precision]
        self.command.append(str(threads))
        self.process = None

    def measure(self, request):
        if request["press"] and request["press"] not in self.presses:
            return None
        if self.process is None:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"bench-reference: {self.name} stopped")
        return json.loads(answer)

    def close(self):
        """Ends the worker; the most bytes that it had resident."""
        self.process.stdin.close()
        self.process.stdout.close()
        _, _, usage = os.wait4(self.process.pid, 0)
        self.process.returncode, self.process = 0, None
        return 1024 * usage.ru_maxrss


class Ours(Peer):
    """`pressroom bench`, a process for every measurement."""

    def __init__(self, program, threads):
        self.name, self.presses, self.process = "Pressroom", ("adakv",), None
        self.command = [program, "bench", "--json", "--model", MODEL, "--threads", str(threads), "--batch", "1"]

    def measure(self, request):
        if self.process:
            self.close()
        layout = "ragged" if request["press"] else "dense"
        command = self.command + ["--context", str(request["context"]), "--layout", layout, "--rounds", "1"]
        command += ["--new-tokens", str(request["new_tokens"])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.report = json.loads(self.process.stdout.readline())
        row = self.report["rows"][0]
        return {**row, "prefill_s": row["prefill_s"]["median"]}


def shown(numbers, digits):
    median = statistics.median(numbers)
    return f"{median:.{digits}f} ({min(numbers):.{digits}f}-{max(numbers):.{digits}f})"


def mega(count):
    return f"{count / 1e6:,.0f} MB"


def processor():
    text = Path("/proc/cpuinfo").read_text()
    fields = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in fields.items()}


def speed(programs, options, vocabulary):
    """Lines of the table of speed, and the numbers behind them by setting and program."""
    results = {}
    settings = [(context, None) for context in options.context] + [(options.context[-1], "adakv")]
    for turn in range(options.rounds):
        for context, press in settings:
            for program in programs:
                request = {"vocabulary": vocabulary, "context": context, "press": press, "new_tokens": options.new_tokens}
                found = program.measure(request)
                if found:
                    results.setdefault((context, press), {}).setdefault(program.name, []).append(found)
                    say(f"round {turn + 1}: {context} tokens, {press or 'no press'}, {program.name}: "
                        f"{found['prefill_s']:.2f} s, {found['decode_tokens_per_s']:.1f} tokens/s")
    yield "| context | press | program | prefill s | decode tokens/s | cache | first token |"
    yield "|---:|---|---|---:|---:|---:|---:|"
    for (context, press), by_name in results.items():
        for name, rounds in by_name.items():
            column = lambda key: [found[key] for found in rounds]  # noqa: E731
            cache = rounds[0]["cache_bytes"]
            yield (
                f"| {context} | {press or ''} | {name} | {shown(column('prefill_s'), 2)} |"
                f" {shown(column('decode_tokens_per_s'), 1)} | {mega(cache) if cache else ''} |"
                f" {' '.join(map(str, sorted(set(column('first_token')))))} |"
            )


def memory(programs, tokens, vocabulary):
    """Lines of the table of memory: a process of its own for each program."""
    yield f"| program | resident at most, prefill of {tokens:,} tokens and 8 more | of which |"
    yield "|---|---:|---|"
    for program in programs:
        program.measure({"vocabulary": vocabulary, "context": tokens, "press": None, "new_tokens": 8})
        peak, parts = program.close(), ""
        if isinstance(program, Ours):
            held = program.report["memory"][0]
            # Not the process's own peak: decoding takes turns with the probe of the memory's speed, which has 256 MiB.
            peak = max(held["peak"], program.report["load_peak_bytes"])
            parts = ", ".join(f"{key} {mega(held[key])}" for key in ("program", "weights", "cache", "activations"))
            parts += f"; loading {mega(program.report['load_peak_bytes'])}"
        say(f"{program.name}: {mega(peak)} {parts}")
        yield f"| {program.name} | {mega(peak)} | {parts} |"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--context", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--long", type=int, default=8192, help="context whose peak of memory is shown")
    options = parser.parse_args()
    if subprocess.run([sys.executable, HERE / "peers" / "setup.py"], check=False).returncode != 0:
        sys.exit(1)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    vocabulary = json.loads((MODEL / "config.json").read_text())["vocab_size"]
    cpu = processor()
    precisions = {"float32": "f32"} | ({"bfloat16": "bf16"} if "avx512_bf16" in cpu["flags"] else {})
    programs = [Ours(options.program, options.threads)]
    for dtype, short in precisions.items():
        programs.append(Peer(f"kvpress {short}", "kvpress", MODEL, dtype, options.threads, ("adakv",)))
        gguf = DEPS / "gguf" / "smollm2-135m-instruct.F16.gguf"
        programs.append(Peer(f"OpenVINO GenAI {short}", "openvino", gguf, short, options.threads))
    table = list(speed(programs, options, vocabulary))
    for program in programs[1:]:
        program.close()
    table += ["", *memory(programs, options.long, vocabulary)]
    print(
        "\n## Beside kvpress and OpenVINO GenAI\n\nPrinted by `make bench-reference`: kvpress 0.5.5 on transformers 5.2.0 and torch 2.11.0, and OpenVINO GenAI\n"
        f"2026.4.1, on SmolLM2-135M's weights with {options.threads} threads each. Programs take turns; medians of"
        f" {options.rounds} rounds, with the\nfastest and the slowest. `adakv` is around `knorm`, at a ratio of 0.5. "
        f"Processor: {cpu['model name']}\n(family {cpu['cpu family']}), {os.cpu_count()} cores.\n"
    )
    print("\n".join(table))


if __name__ == "__main__":
    main()
