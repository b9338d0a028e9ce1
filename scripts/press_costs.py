#!/usr/bin/env python3
"""What kvpress's presses and ours take of a layer, side by side on the same tensors, as the table of docs/presses.md.

usage: press_costs.py PRESSROOM [--tokens N] [--threads N] [--rounds N] [--shape NAME] [--press NAME ..]

Runs under the Python environment of kvpress (scripts/peers.py makes it) and asks the program PRESSROOM. Both load the
same model of one layer with random weights and read the same tokens; presses with side data read the same files. They
take turns, press by press and round by round; the table shows medians, with the fastest and the slowest round.

A time goes from what the model computes anyhow (its forward pass without attention weights) to the compressed cache.
A press that decides on the whole context is timed as its replays and decision; one of the decoding phase as what it
does after one new token, of 4,097 then keeping 2,048. Where heads keep different numbers, kvpress notes what is evicted
and goes on storing it; ours copies what is kept: the table says how much of our time that is.
"""

import argparse
import contextlib
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["TQDM_DISABLE"] = os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = os.environ["HF_HUB_OFFLINE"] = "1"
GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
sys.path.insert(0, str(GOLDEN))

import kvpress  # noqa: E402
import torch  # noqa: E402
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
# What kvpress notes as evicted and goes on storing.
NOTED = {"adakv", "critical_adakv", "lukv", "duo_attention", "dms", "fastkvzip"}
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
        self.model.set_attn_implementation("sdpa")
        if isinstance(press, kvpress.FinchPress):
            press.window_size = QUESTION
        if isinstance(press, kvpress.ObservedAttentionPress):
            return self.observed(press)
        if kind == CONTEXT:
            return self.prefill(press) - self.prefill(None)
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

    def taken(self, name, params, ratio, data):
        """Seconds, and how many of them storing what is kept took, if that was measured."""
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
        return json.loads(answer)[0].values()

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
    if None in seconds:
        return ""
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


@torch.no_grad()
def measure(shape, options):
    """Rows of the table of one shape: press, their seconds, our seconds, those of them that storing took."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "random"
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**BASE, **SHAPES[shape], tie_word_embeddings=True)).save_pretrained(folder)
        theirs = Theirs(folder, options.tokens)
        ours = Ours(options.program, folder, options.tokens, options.threads)
        for name, params, kind, takes_ratio in CASES:
            if options.press and name not in options.press:
                continue
            ratio = RATIO if takes_ratio else None
            if MEDIAN in params.values():
                params = {**params, "threshold": -theirs.layer.keys.norm(dim=-1).median().item()}
            press, data = theirs.press(name, params, ratio)
            times = [], [], []
            for turn in range(1 + (options.rounds if kind != CONTEXT else min(options.rounds, 3))):
                taken = []
                for measured in (lambda: [theirs.seconds(press, kind)], lambda: ours.taken(name, params, ratio, data)):
                    time.sleep(REST)
                    taken += measured()
                if turn:  # the first is a rehearsal
                    for seconds, known in zip(taken, times):
                        known.append(seconds)
            print(f"{shape} {title(name, params)}:", *map(shown, times), file=sys.stderr, flush=True)
            yield title(name, params), *times
        ours.close()


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1])
    parser.add_argument("program")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--shape", nargs="+", default=list(SHAPES))
    parser.add_argument("--press", nargs="+")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    tables = {shape: dict((name, times) for name, *times in measure(shape, options)) for shape in options.shape}
    print(
        f"Milliseconds that a press takes of a layer with {options.tokens:,} tokens, in float32 with {options.threads}"
        " threads on the same\ntensors, beside kvpress 0.5.5: medians of rounds in which the two"
        " take turns, with the fastest and the slowest.\nPrinted by `make press-costs`. A time goes from what the model"
        " computes anyhow (no attention weights) to the\ncompressed cache. A press of whole contexts is timed as its"
        " replays and decision, one of the decoding phase as what it does\nafter one new token of 4,097, to keep 2,048."
        f" Ratios are {RATIO}; wrappers are around `knorm`. Processor: {processor()}.\n\nWhere heads keep different"
        " numbers, kvpress notes what is evicted and goes on storing it; ours copies what is kept to a cache of\nits own,"
        " and the last column says how many times as fast deciding alone is.\n"
    )
    print("| press |" + "".join(f" {shape}: kvpress | ours | times as fast | without storing |" for shape in tables))
    print("|---|" + "---:|---:|---:|---:|" * len(tables))
    for name in next(iter(tables.values())):
        cells = []
        for rows in tables.values():
            theirs, ours, storing = rows[name]
            factors = [statistics.median(theirs) / statistics.median(ours)]
            if name in NOTED:
                factors.append(statistics.median(theirs) / (statistics.median(ours) - statistics.median(storing)))
            cells += [shown(theirs), shown(ours), *(f"{factor:.1f}" for factor in factors), *[""] * (2 - len(factors))]
        print(f"| `{name}` | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
