"""Runs a press of kvpress on the tiny Llamas and reads off what it left. Imported by presses.py and its files.

presses/PRESS.py states `CASES`, by `cases(..)`. It may define more:

    RANKS = False                            what the press calls scores does not rank: do not store it
    def side_data(model, folder)             writes what the press reads beside the model, in the published format
    def ready(press, case, model, folder)    last touches before a run

`folder` is presses/PRESS/SHAPE.

How a result is found: before the press's own hook runs, every row of keys and values that a forward pass appends is
noted with its position. Afterwards a head's kept positions are those that `masked_key_indices` does not name, or else
those whose noted rows are found in the cache: by their keys, or by their values where the keys were changed.
"""

import contextlib
import itertools
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType

import torch
from kvpress import DecodingPress, PrefillDecodingPress
from kvpress.presses.base_press import BasePress
from kvpresses import build
from tiny import HERE, VOCAB, input_ids
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils import logging

RATIOS = (0.25, 0.5, 0.75)
NUDGE = 1e-6
SPARE_ID = input_ids(VOCAB)[0, -1].item()  # the token that no input shorter than the vocabulary holds
logging.disable_progress_bar()


def cases(params: dict, lengths, ratios=RATIOS, shapes=("gqa", "mha"), once="mqa", **extra) -> list[dict]:
    """Every shape, length and ratio; on the shape `once` the longest context at one ratio alone.

    `extra` goes into every case: `seed` (of torch's generator, set before each call of a scorer), `attention`
    ("eager" where the press reads weights), `question_ids` and `decode_ids` (fed after the context, the latter one by
    one), and whatever the press's `ready` reads.
    """
    wanted = list(itertools.product(shapes, lengths, ratios))
    if once:
        wanted.append((once, max(lengths), ratios[len(ratios) // 2]))
    return [
        {"shape": shape, "params": params, "ratio": ratio, "input_ids": input_ids(length)[0].tolist(), **extra}
        for shape, length, ratio in wanted
    ]


@cache
def model_of(shape: str, attention: str):
    folder = HERE / "tiny" / shape
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention).eval()


@dataclass
class Layer:
    """What a press left of one layer: per KV head, ascending positions; and what stands there now.

    `changed` names what of `keys` and `values`, [kv_heads, kept, channels], is not what was computed for the positions.
    Where pairs are masked rather than removed, `keys` and `values` are those that the press appended.
    """

    kept: list[list[int]]
    keys: torch.Tensor | None = None
    values: torch.Tensor | None = None
    changed: set[str] = field(default_factory=set)
    channels: list[list[int]] | None = None


def noise(*shape: int) -> torch.Tensor:
    """Random numbers for side data; the same for the same shape."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


@dataclass
class Outcome:
    """What was left after each forward pass, the first being the context's, and the scores of the press itself."""

    passes: list[list[Layer]] = field(default_factory=list)
    scores: torch.Tensor | None = None


class Rows:
    """All rows of keys and values that the forward passes announced by `expect` append, layer by layer."""

    def __init__(self, model):
        self.modules = [layer.self_attn for layer in model.model.layers]
        self.keys, self.values = [None] * len(self.modules), [None] * len(self.modules)
        self.due = set()

    def expect(self):
        self.due = set(range(len(self.modules)))

    def __enter__(self):
        self.hooks = [module.register_forward_hook(self.note, with_kwargs=True) for module in self.modules]
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()

    def note(self, module, args, kwargs, output):
        index, new = module.layer_idx, kwargs["hidden_states"].shape[1]
        if index not in self.due:
            return
        self.due.remove(index)
        layer = kwargs["past_key_values"].layers[index]
        for known, rows in ((self.keys, layer.keys), (self.values, layer.values)):
            rows = rows[0, :, -new:].clone()
            known[index] = rows if known[index] is None else torch.cat([known[index], rows], dim=1)

    def left(self, cache) -> list[Layer]:
        return [self.layer(index, layer.keys[0], layer.values[0]) for index, layer in enumerate(cache.layers)]

    def layer(self, index, keys, values) -> Layer:
        all_keys, all_values = self.keys[index], self.values[index]
        masked = self.modules[index].masked_key_indices
        if masked is not None:
            mask = torch.ones(all_keys.shape[:2], dtype=torch.bool)
            mask[masked[1], masked[2]] = False
            layer = Layer([row.nonzero().flatten().tolist() for row in mask])
            if keys.shape[1] > all_keys.shape[1]:
                new = slice(all_keys.shape[1], None)
                layer.keys, layer.values, layer.changed = keys[:, new], values[:, new], {"keys", "values"}
            return layer
        by_keys = positions(keys, all_keys)
        found = positions(values, all_values) if by_keys is None else by_keys
        assert found is not None, "neither keys nor values are those of the full cache"
        kept, order = found.sort(dim=1)
        keys, values, all_keys, all_values = (
            rows.gather(1, index.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))
            for rows, index in ((keys, order), (values, order), (all_keys, kept), (all_values, kept))
        )
        layer = Layer(kept.tolist(), keys, values)
        if not torch.equal(values, all_values):
            layer.changed.add("values")
        zero = (keys == 0).all(dim=1, keepdim=True)
        if zero.any() and torch.equal(keys, all_keys.masked_fill(zero, 0)):
            layer.channels = [head.nonzero().flatten().tolist() for head in ~zero[:, 0]]
        elif not torch.equal(keys, all_keys):
            layer.changed.add("keys")
        return layer


def positions(rows: torch.Tensor, known: torch.Tensor) -> torch.Tensor | None:
    """Where each of `rows`, [heads, n, channels], stands in `known`, [heads, tokens, channels]."""
    same = (rows.unsqueeze(2) == known.unsqueeze(1)).all(dim=-1)
    return same.int().argmax(dim=-1) if (same.sum(dim=-1) == 1).all() else None


def nest(press) -> list[BasePress]:
    """The press and all presses inside it."""
    inside = [entry for value in vars(press).values() for entry in (value if isinstance(value, list) else [value])]
    return [press] + [deeper for entry in inside if isinstance(entry, BasePress) for deeper in nest(entry)]


def watch(press, seed, nudge) -> list[torch.Tensor]:
    """Sees the scores that `press` itself, not one inside it, decides by; `nudge` changes those of all presses."""
    seen, depth = [], 0

    def watched(part, score):
        def scored(*args, **kwargs):
            nonlocal depth
            if seed is not None and depth == 0:
                torch.manual_seed(seed)
            depth += 1
            try:
                result = score(*args, **kwargs)
            finally:
                depth -= 1
            if part is press:
                seen.append(result[0].clone())  # cloned: wrappers write into the tensor
            return nudge(result)

        return scored

    def all_at_once(part, decide, name):
        def decided(*args):
            scores = getattr(part, name)
            setattr(part, name, [nudge(one) for one in scores] if isinstance(scores, list) else nudge(scores))
            decide(*args)
            seen.extend(layer[0].clone() for layer in part.score_val)

        return decided

    def enhanced(part, enhance):
        def then():
            enhance()
            seen.extend(part.scores.clone())
            part.scores = nudge(part.scores)

        return then

    def composed(part, compose):
        def then():
            compose()
            # The first layer's are copies of other layers': nudging the scores alone would leave them tied.
            part.composite_scores_per_layer = nudge(part.composite_scores_per_layer)

        return then

    for part in nest(press):
        if hasattr(part, "score"):
            part.score = watched(part, part.score)
        if hasattr(part, "compress_post"):  # kvzip and its kin decide on all layers when the context ends
            part.compress_post = all_at_once(part, part.compress_post, "score_val")
        if hasattr(part, "enhance_scores"):  # and so does kvcompose
            part.enhance_scores = enhanced(part, part.enhance_scores)
            part.compute_composite_scores = composed(part, part.compute_composite_scores)
    return seen


@torch.no_grad()
def run(name: str, file: ModuleType, case: dict, nudge=lambda scores: scores) -> Outcome:
    """The case through kvpress, as its pipeline would go about it."""
    model = model_of(case["shape"], case.get("attention", "sdpa"))
    press = build(name, case["params"], case["ratio"])
    if hasattr(file, "ready"):
        file.ready(press, case, model, HERE / "presses" / name / case["shape"])
    scores = watch(press, case.get("seed"), nudge)
    in_prefill = not isinstance(press, DecodingPress)
    in_decoding = isinstance(press, (DecodingPress, PrefillDecodingPress)) or getattr(press, "decoding", False)
    outcome, kv, tokens = Outcome(), DynamicCache(), len(case["input_ids"])
    for layer in model.model.layers:
        layer.self_attn.masked_key_indices = None
    with Rows(model) as rows:
        with press(model) if in_prefill else contextlib.nullcontext():
            rows.expect()
            model.model(input_ids=torch.tensor([case["input_ids"]]), past_key_values=kv)
        outcome.passes.append(rows.left(kv))
        with press(model) if in_decoding else contextlib.nullcontext():
            for ids in passes_after(case):
                rows.expect()
                position_ids = torch.arange(tokens, tokens + len(ids))[None]
                model(input_ids=torch.tensor([ids]), past_key_values=kv, position_ids=position_ids)
                outcome.passes.append(rows.left(kv))
                tokens += len(ids)
    if scores:
        outcome.scores = torch.stack(scores)
        assert outcome.scores.isfinite().all(), f"{name}: scores are not finite"
    return outcome


def passes_after(case: dict) -> list[list[int]]:
    """The token ids of the forward passes after the context: the question at once, what is decoded one by one."""
    return [case["question_ids"]] + [[token] for token in case["decode_ids"]] if "decode_ids" in case else []


def either_way(run_nudged, kept: list) -> list:
    """Of every list in `kept`, [pass][layer][head][positions], those positions that tiny changes of scores flip.

    The scores are lowered at random by up to NUDGE of their size until further tries flip nothing more.
    """
    flipped = [[[set() for _ in layer] for layer in layers] for layers in kept]
    generator, quiet, enough = torch.Generator().manual_seed(0), 0, 6

    def nudge(scores):
        steps = NUDGE * torch.rand(scores.shape, generator=generator)
        return torch.where(scores == 0, -1e-6 * steps, scores * (1 - steps))

    while quiet < enough:
        quiet += 1
        for known, ours, theirs in zip(flat(flipped), flat(kept), flat(run_nudged(nudge)), strict=True):
            new = set(ours) ^ set(theirs)
            if not new <= known:
                known |= new
                quiet, enough = 0, 100
    return [[[sorted(head) for head in layer] for layer in layers] for layers in flipped]


def flat(passes: list) -> list:
    return [head for layers in passes for layer in layers for head in layer]


def kept_of(outcome: Outcome) -> list:
    return [[layer.kept for layer in layers] for layers in outcome.passes]


def label(params: dict) -> str:
    """The parameters in one word, `window_size=8-press=(name=knorm)`."""

    def word(value):
        if isinstance(value, list):
            return "(" + ",".join(map(word, value)) + ")"
        return f"({label(value)})" if isinstance(value, dict) else str(value)

    return "-".join(f"{key}={word(value)}" for key, value in params.items())


def golden(name: str, file: ModuleType) -> tuple[list[dict], dict[str, torch.Tensor]]:
    """All cases of a press's file with their results, and the tensors that they name."""
    done, tensors = [], {}
    if hasattr(file, "side_data"):
        for shape in sorted({case["shape"] for case in file.CASES}):
            folder = HERE / "presses" / name / shape
            folder.mkdir(parents=True, exist_ok=True)
            file.side_data(model_of(shape, "sdpa"), folder)
    model_of.cache_clear()  # a press may have adapted a model
    for case in file.CASES:
        parts = [case["shape"], label(case["params"]), str(len(case["input_ids"]))]
        scored = "/".join(filter(None, parts))
        identity = f"{scored}/{case['ratio']}" if case["ratio"] is not None else scored
        assert identity not in {other["id"] for other in done}, f"{name}: {identity} twice"
        outcome = run(name, file, case)
        kept = kept_of(outcome)
        either = either_way(lambda nudge: kept_of(run(name, file, case, nudge)), kept)
        result = {"id": identity, **case}
        if outcome.scores is not None and getattr(file, "RANKS", True):
            if not torch.equal(tensors.setdefault(scored, outcome.scores), outcome.scores):
                scored = identity
                tensors[scored] = outcome.scores
            result["scores"] = scored
        result |= shown(outcome.passes[0], either[0])
        after, cut = [], kept[0]
        for number, layers in enumerate(outcome.passes[1:], start=1):
            longer = [[head + fresh(number, case) for head in layer] for layer in cut]
            cut = kept[number]
            if cut != longer:
                after.append({"pass": number, **shown(layers, either[number])})
        if "decode_ids" in case:
            result["after"] = after
        for part in ("keys", "values"):
            if any(part in layer.changed for layer in outcome.passes[-1]):
                result[part] = f"{identity}/{part}"
                tensors |= {f"{result[part]}/{i}": getattr(layer, part) for i, layer in enumerate(outcome.passes[-1])}
        done.append(result)
    return done, tensors


def fresh(number: int, case: dict) -> list[int]:
    """Positions of the tokens that pass `number` after the context feeds."""
    fed = [len(case["input_ids"]), *map(len, passes_after(case))]
    return list(range(sum(fed[:number]), sum(fed[: number + 1])))


def shown(layers: list[Layer], either: list) -> dict:
    """Decisions as they stand in the JSON."""
    result = {"kept": [layer.kept for layer in layers]}
    if any(map(any, either)):
        result["either"] = either
    if any(layer.channels is not None for layer in layers):
        result["channels"] = [layer.channels for layer in layers]
    return result
