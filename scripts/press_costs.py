#!/usr/bin/env python3
"""What kvpress's presses and ours take of a layer, side by side on the same tensors, as the table of docs/presses.md.

usage: press_costs.py PRESSROOM [--tokens N] [--threads N] [--rounds N] [--shape NAME ..] [--press NAME ..] [--rows FILE] [--minutes N]

Runs under the Python environment of kvpress (scripts/peers.py makes it) and asks the program PRESSROOM. Both load the
same model of one layer with random weights and read the same tokens; presses with side data read the same files. They
take turns, press by press and round by round; the table shows medians, with the fastest and the slowest round.

A time goes from what the model computes anyhow (its forward pass without attention weights) to the compressed cache.
A press that decides on the whole context is timed as its replays and decision; one of the decoding phase as what it
does after one new token, of 4,097 then keeping 2,048.

Where heads keep different numbers, kvpress evicts nothing while its press runs: it notes positions, and its patched
attention overwrites the keys there with made-up ones before every later pass. Ours has copied what is kept to a cache
of its own by then. So that both have evicted when the time ends, the first of these overwritings is added to kvpress's
time, one new token's; the table gives the press alone too, and the factor without it.

With `--rows` finished rows are kept in a file, and a run measures only what is missing there, or anew what `--press`
names; with `--minutes` it ends when these are over, for machines that are lent by the turn. The table is printed when
no row is missing.
"""

import argparse
import contextlib
import json
import logging
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

os.environ["TQDM_DISABLE"] = os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = os.environ["HF_HUB_OFFLINE"] = "1"
GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
sys.path.insert(0, str(GOLDEN))

import kvpress  # noqa: E402
import torch  # noqa: E402
from kvpress.attention_patch import attention_patch  # noqa: E402
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM  # noqa: E402

SHIPPED = kvpress.NonCausalAttnPress.non_causal_chunked_attn
from kvpresses import build  # noqa: E402
from presses import load  # noqa: E402

# What is timed is the reference as it is shipped, not as the golden cases correct it.
kvpress.NonCausalAttnPress.non_causal_chunked_attn = staticmethod(SHIPPED)

SHAPES = {
    "SmolLM2-135M": dict(hidden_size=576, num_attention_heads=9, num_key_value_heads=3, rope_theta=1e5),
    "Llama-3.1-8B": dict(hidden_size=4096, num_attention_heads=32, num_key_value_heads=8, rope_theta=5e5),
}
# The MLP is no press's business: it is as narrow as can be.
BASE = dict(vocab_size=8192, intermediate_size=64, num_hidden_layers=1, max_position_embeddings=16384)
RATIO, QUESTION = 0.5, 64
# Seconds until the other's threads, which wait for work by looking for it, have gone to sleep.
REST = 0.05

LAYER, CONTEXT, STEP = "layer", "context", "step"
KNORM, STEPWISE = {"name": "knorm"}, {"base_press": {"name": "knorm"}, "compression_interval": 1}
DECODING = {"name": "decoding", **STEPWISE, "target_size": 2048}
MEDIAN = "that of knorm's scores"
# Press, parameters, what is timed, whether it takes a ratio. Wrappers wrap the cheapest scorer, so as to be seen.
CASES = [
    *((name, {}, LAYER, True) for name in (
        "random", "knorm", "snapkv", "expected_attention", "expected_attention_stats", "streaming_llm", "tova",
        "observed_attention", "qfilter", "pyramidkv", "lagkv", "keydiff", "non_causal_attention", "leverage_score",
        "compactor", "cur",
    )),
    ("kvzap", {"model_type": "linear"}, LAYER, True),
    ("kvzap", {"model_type": "mlp"}, LAYER, True),
    ("cap", {}, LAYER, True),
    ("think", {"key_channel_compression_ratio": 0.5}, LAYER, False),
    ("simlayerkv", {"lazy_threshold": 0.1}, LAYER, False),  # lazy enough for a random layer
    ("duo_attention", {"head_compression_ratio": 0.5}, LAYER, False),
    ("finch", {}, LAYER, True),
    ("adakv", {"press": KNORM}, LAYER, True),
    ("lukv", {"press": KNORM}, LAYER, True),
    ("criticalkv", {"press": KNORM}, LAYER, True),
    ("critical_adakv", {"press": KNORM}, LAYER, True),
    ("per_layer_compression", {"press": KNORM, "compression_ratios": [RATIO]}, LAYER, False),
    ("composed", {"presses": [{**KNORM, "compression_ratio": 0.3}, {"name": "keydiff", "compression_ratio": 0.3}]},
     LAYER, False),
    ("key_rerotation", {"press": KNORM}, LAYER, True),
    ("chunk", {"press": KNORM}, LAYER, True),
    ("chunkkv", {"press": KNORM}, LAYER, True),
    ("entropy_gated_chunkkv", {"press": KNORM}, LAYER, True),
    ("block", {"press": KNORM}, LAYER, True),
    ("merging", {"press": KNORM}, LAYER, True),
    ("dms", {"press": KNORM, "threshold": MEDIAN}, LAYER, False),
    ("kvzip", {}, CONTEXT, True),
    ("kvzip_plus", {}, CONTEXT, True),
    ("kvgrad", {}, CONTEXT, True),
    ("kvcompose", {}, CONTEXT, True),
    ("fastkvzip", {}, LAYER, True),  # needs no replay
    ("restorekv", {}, CONTEXT, True),
    ("decoding", {**STEPWISE, "target_size": 2048}, STEP, False),
    ("compression_ratio_decoding", {**STEPWISE, "target_compression_ratio": 0.5}, STEP, False),
    ("prefill_decoding", {"prefilling_press": KNORM, "decoding_press": DECODING}, LAYER, True),
    ("cam", {**STEPWISE, "target_size": 2048}, STEP, False),
]
# The widths that are published.
WIDTHS = {"fastkvzip": {"CHANNELS": 16}, "kvzap": {"WIDTH": 512}}


class Layer:
    """The one layer after a forward pass over `ids`, ready for a press's hook any number of times."""

    def __init__(self, model, ids, attention="sdpa", cache=None):
        self.cache = cache or DynamicCache()
        self.module = model.model.layers[0].self_attn
        model.set_attn_implementation(attention)
        start = self.cache.get_seq_length()
        handle = self.module.register_forward_hook(self.note, with_kwargs=True)
        model.model(input_ids=ids, past_key_values=self.cache, position_ids=torch.arange(start, start + ids.shape[1])[None])
        handle.remove()
        self.keys, self.values = self.cache.layers[0].keys, self.cache.layers[0].values

    def note(self, module, args, kwargs, output):
        self.args, self.kwargs, self.output = args, kwargs, output

    def seconds(self, press):
        for _ in range(2):  # the first wakes the threads
            self.cache.layers[0].keys, self.cache.layers[0].values = self.keys, self.values
            self.module.masked_key_indices = None
            start = time.perf_counter()
            press.forward_hook(self.module, self.args, self.kwargs, self.output)
            seconds = time.perf_counter() - start
        return seconds


class Theirs:
    """kvpress on the model in `folder`."""

    def __init__(self, folder, tokens):
        self.folder = folder
        self.ids = (torch.arange(tokens) * 7919 % BASE["vocab_size"])[None]
        self.reload()
        self.layer = Layer(self.model, self.ids)
        cache = Layer(self.model, self.ids).cache
        self.step = Layer(self.model, torch.tensor([[1]]), cache=cache)

    def reload(self):
        self.model = LlamaForCausalLM.from_pretrained(self.folder, attn_implementation="sdpa").eval()

    def press(self, name, params, ratio):
        """The press, and the folder with its side data or None."""
        file = load(name)
        vars(file).update(WIDTHS.get(name, {}))
        data = None
        if hasattr(file, "side_data"):
            data = self.folder / "side_data" / name
            if not data.exists():
                data.mkdir(parents=True)
                self.reload()  # a press may adapt the model
                file.side_data(self.model, data)
                self.reload()
        press = build(name, params, ratio)
        if hasattr(file, "ready"):
            file.ready(press, {"shape": self.folder.name, "delimiter_id": -1}, self.model, data)
        return press, data

    def seconds(self, press, kind):
        """Seconds of the press, and of the first overwriting of evicted keys if that is how it evicts."""
        module = self.model.model.layers[0].self_attn if kind == CONTEXT else self.layer.module
        seconds = self.press_seconds(press, kind)
        return seconds, self.overwriting(module) if getattr(module, "masked_key_indices", None) else None

    def overwriting(self, module):
        """What the patched attention does before it attends from one new token."""
        overwrite = attention_patch(lambda *_, **__: None)
        config = self.model.config
        query = torch.randn(1, config.num_attention_heads, 1, module.head_dim)
        keys = torch.cat([self.layer.keys, self.layer.keys[:, :, :1]], dim=2)
        for _ in range(2):  # as above
            start = time.perf_counter()
            overwrite(module, query, keys, None, None, 0.0)
            seconds = time.perf_counter() - start
        return seconds

    def press_seconds(self, press, kind):
        self.model.set_attn_implementation("sdpa")
        if isinstance(press, kvpress.FinchPress):
            press.window_size = QUESTION
        if isinstance(press, kvpress.ObservedAttentionPress):
            return self.observed(press)
        if kind == CONTEXT:
            without = self.prefill(None)
            return self.prefill(press) - without
        with press(self.model):
            seconds = (self.step if kind == STEP else self.layer).seconds(press)
            start = time.perf_counter()
        decides_at_the_end = hasattr(press, "compress_post")
        return seconds + (time.perf_counter() - start if decides_at_the_end else 0)

    def observed(self, press):
        """Attention weights are no part of the forward pass: what computing them takes more is the press's."""
        eager = Layer(self.model, self.ids, "eager")
        with press(self.model):
            seconds = eager.seconds(press)
        for attention, sign in (("eager", 1), ("sdpa", -1)):
            self.model.set_attn_implementation(attention)
            eager.cache = eager.kwargs["past_key_values"] = DynamicCache()
            start = time.perf_counter()
            eager.module(*eager.args, **eager.kwargs)
            seconds += sign * (time.perf_counter() - start)
        return seconds

    def prefill(self, press):
        self.model.model.layers[0].self_attn.masked_key_indices = None
        eager = isinstance(press, kvpress.KVComposePress)
        self.model.set_attn_implementation("eager" if eager else "sdpa")
        start = time.perf_counter()
        with press(self.model) if press else contextlib.nullcontext():
            self.model.model(input_ids=self.ids, past_key_values=DynamicCache())
        return time.perf_counter() - start


class Ours:
    """`pressroom press cost` on the model in `folder`."""

    def __init__(self, program, folder, tokens, threads):
        command = [program, "press", "cost", "--model", folder, "--tokens", str(tokens), "--threads", str(threads)]
        command += ["--rounds", "1", "--question-tokens", str(QUESTION)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, name, params, ratio, data):
        entries = {"name": name, **params} | ({"compression_ratio": ratio} if ratio else {})
        if data:
            entries["side_data"] = str(data)
        if name == "composed":
            entries = {"chain": params["presses"]}
        if name == "prefill_decoding":
            entries["prefilling_press"] = params["prefilling_press"]
        self.process.stdin.write(f"press = [{toml(entries)}]\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"press_costs: {name}: pressroom stopped")
        return json.loads(answer)[0]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def toml(value) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def shown(seconds) -> str:
    median, low, high = (1000 * value for value in (statistics.median(seconds), min(seconds), max(seconds)))
    digits = 0 if median >= 100 else 1 if median >= 10 else 2
    return f"{median:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def processor() -> str:
    fields = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines())
    known = {key.strip(): value.strip() for key, value in fields.items()}
    return f"{known['model name']} (family {known['cpu family']})"


def title(name, params) -> str:
    if name == "kvzap":
        return f"kvzap ({params['model_type']})"
    return name


class Row(NamedTuple):
    """Seconds, round by round."""

    shape: str
    press: str
    theirs: list
    overwriting: list
    ours: list

    def medians(self):
        return [statistics.median(seconds) if seconds else 0 for seconds in self[2:]]

    def cells(self):
        theirs, overwriting, ours = self.medians()
        if not overwriting:
            return shown(self.theirs), shown(self.ours), f"{theirs / ours:.1f}", ""
        both = f"{shown(self.theirs)} + {shown(self.overwriting)}"
        return both, shown(self.ours), f"{(theirs + overwriting) / ours:.1f}", f"{theirs / ours:.1f}"

    def made_up_for(self):
        """Passes through the model after which kvpress has spent as much as ours; one where it does at once."""
        theirs, overwriting, ours = self.medians()
        return max(1, math.ceil((ours - theirs) / overwriting)) if overwriting else 1


@torch.no_grad()
def measure(shape, cases, options):
    """Rows of the table of one shape."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "random"
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**BASE, **SHAPES[shape], tie_word_embeddings=True)).save_pretrained(folder)
        theirs = Theirs(folder, options.tokens)
        ours = Ours(options.program, folder, options.tokens, options.threads)
        for name, params, kind, takes_ratio in cases:
            ratio = RATIO if takes_ratio else None
            row = Row(shape, title(name, params), [], [], [])
            if MEDIAN in params.values():
                params = {**params, "threshold": -theirs.layer.keys.norm(dim=-1).median().item()}
            press, data = theirs.press(name, params, ratio)
            for turn in range(1 + (options.rounds if kind != CONTEXT else min(options.rounds, 3))):
                time.sleep(REST)
                seconds, overwriting = theirs.seconds(press, kind)
                time.sleep(REST)
                taken = seconds, overwriting, ours.seconds(name, params, ratio, data)
                for known, seconds in zip(row[2:], taken):
                    if turn and seconds is not None:  # the first is a rehearsal
                        known.append(seconds)
            print(shape, row.press, *row.cells(), file=sys.stderr, flush=True)
            yield row
        ours.close()


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1])
    parser.add_argument("program")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--shape", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--press", nargs="+", default=[])
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    end = time.monotonic() + 60 * options.minutes
    known = options.rows.read_text().splitlines() if options.rows and options.rows.exists() else []
    rows = {row[:2]: row for row in (Row(*json.loads(line)) for line in known)}
    for shape in options.shape:
        asked = [case for case in CASES if case[0] in options.press]
        missing = [case for case in CASES if (shape, title(*case[:2])) not in rows]
        with contextlib.redirect_stdout(sys.stderr):  # kvpress tells what it loads
            for row in measure(shape, asked or missing, options) if asked or missing else ():
                rows[row[:2]] = row
                if options.rows:
                    options.rows.write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
                if time.monotonic() > end:
                    sys.exit("press_costs: the minutes are over")
    presses = [title(*case[:2]) for case in CASES]
    if not options.rows and options.press:
        presses = [title(*case[:2]) for case in CASES if case[0] in options.press]
    missing = [f"{press} ({shape})" for shape in options.shape for press in presses if (shape, press) not in rows]
    if missing:
        sys.exit(f"press_costs: not measured yet: {', '.join(missing)}")
    print_table(rows, presses, options)


def print_table(rows, presses, options):
    rounds = sorted({len(row.ours) for row in rows.values()})
    print(
        f"Milliseconds that a press takes of a layer with {options.tokens:,} tokens, in float32 with {options.threads}"
        " threads on the same\ntensors, beside kvpress 0.5.5: medians of rounds in which the two"
        f" take turns ({rounds[-1]}, fewer for what is slow,\nat least {rounds[0]}), with the fastest and the slowest."
        " Printed by `make press-costs`. A time goes from what the model\ncomputes anyhow (no attention weights) to the"
        " compressed cache. A press of whole contexts is timed as its replays and\ndecision, one of the decoding phase"
        " as what it does after one new token of 4,097, to keep 2,048."
        f" Ratios are {RATIO}; wrappers are\naround `knorm`. Processor: {processor()}.\n\nWhere heads keep different"
        " numbers, kvpress evicts nothing while its press runs: it notes positions, and overwrites the keys\nthere"
        " with made-up ones before each later pass through the model. Ours has copied what is kept to a cache of its"
        " own by\nthen. So kvpress's time is given as the press alone + the first overwriting, for one new token; the"
        " factor counts both,\nand the last column counts the press alone against all of ours.\n"
    )
    for row in rows.values():
        if row.made_up_for() > 1:
            print(
                f"`{row.press}` of {row.shape} copies more than kvpress overwrites once; kvpress has spent as much after"
                f" {row.made_up_for()} new tokens.\n"
            )
    heads = "kvpress | ours | times as fast | press alone"
    print("| press |" + "".join(f" {shape}: {heads} |" for shape in options.shape))
    print("|---|" + "---:|---:|---:|---:|" * len(options.shape))
    for press in presses:
        cells = [cell for shape in options.shape for cell in rows[shape, press].cells()]
        print(f"| `{press}` | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
