"""Scores and kept positions of kvpress's presses on the tiny Llamas of tiny.py.

usage: python scores.py          (after tiny.py; needs torch, transformers, kvpress, safetensors)

Writes scores.safetensors (per tensor: [layers, kv_heads, tokens], what press.score returned) and scores.json, one case
a line: {id, shape, press, params, ratio, length, input_ids, kept: [layer][kv_head][positions, ascending], scores}.
`tied_layers` names the layers whose cut falls between equal scores: there the kept set is one of several right ones.
`hidden_states` of a layer, which some presses read, is the input of its self_attn: the output of input_layernorm.
"""

import json
from pathlib import Path

import torch
from kvpress import (
    AdaKVPress,
    ExpectedAttentionPress,
    KnormPress,
    RandomPress,
    SnapKVPress,
    StreamingLLMPress,
)
from kvpress.utils import compute_n_kept
from safetensors.torch import save_file
from tiny import HERE, input_ids
from transformers import AutoModelForCausalLM, DynamicCache

RATIOS = (0.25, 0.5, 0.75)
PRESSES = {
    "random": RandomPress,
    "knorm": KnormPress,
    "snapkv": SnapKVPress,
    "expected_attention": ExpectedAttentionPress,
    "streaming_llm": StreamingLLMPress,
}
EA = dict(n_future_positions=512, n_sink=4, use_covariance=True, use_vnorm=True, epsilon=0.0)
# press, parameters, and the lengths beside the common ones: the shortest that the press takes, and one beyond
SCORERS = [
    ("random", dict(seed=7), (5,)),
    ("knorm", {}, (1, 5)),
    ("snapkv", dict(window_size=8, kernel_size=5), (9, 10)),
    ("snapkv", dict(window_size=4, kernel_size=3), (5, 6)),
    ("expected_attention", EA, (5, 6)),
    ("expected_attention", EA | dict(epsilon=0.01), (5,)),
    ("expected_attention", EA | dict(use_covariance=False), (5,)),
    ("expected_attention", EA | dict(use_vnorm=False), (5,)),
    ("expected_attention", EA | dict(n_sink=0, n_future_positions=16), (1, 5)),
    ("streaming_llm", dict(n_sink=4), (5, 6)),
    ("streaming_llm", dict(n_sink=2), (3,)),
]
INNER = [
    ("knorm", {}, (5,)),
    ("snapkv", dict(window_size=8, kernel_size=5), (9,)),
    ("expected_attention", EA | dict(epsilon=0.01), (5,)),
]
COMMON = (17, 40)


def capture(model, press, scorer, ids):
    """Prefill under `press`: the scores of `scorer` by layer, and the cache left behind."""
    scores, score = [], scorer.score

    def recorded(*args, **kwargs):
        result = score(*args, **kwargs)
        scores.append(result[0].clone())  # cloned: AdaKV writes its safeguard into the tensor
        return result

    scorer.score = recorded
    cache = DynamicCache()
    with press(model):
        model.model(input_ids=ids, past_key_values=cache)
    return torch.stack(scores), cache


def kept_by_scorer(scores, ratio, cache, full):
    """ScorerPress's own choice recomputed from the scores, checked against the keys it left in the cache."""
    n_kept = compute_n_kept(scores.shape[-1], ratio)
    indices = scores.topk(n_kept, dim=-1).indices
    for layer, rows in enumerate(indices):
        keys = full.layers[layer].keys[0]
        expected = keys.gather(1, rows.unsqueeze(-1).expand(-1, -1, keys.shape[-1]))
        assert torch.equal(cache.layers[layer].keys[0], expected)
    return [[sorted(head.tolist()) for head in layer] for layer in indices]


def kept_by_adakv(model, heads, length):
    """The positions whose keys AdaKV does not mask."""
    kept = []
    for layer in model.model.layers:
        mask = torch.ones(heads, length, dtype=torch.bool)
        _, head, position = layer.self_attn.masked_key_indices
        mask[head, position] = False
        kept.append([row.nonzero().flatten().tolist() for row in mask])
    return kept


def is_tied(scores, kept):
    """Whether the lowest kept and the highest evicted of `scores` (one dimension) are equal, or as good as."""
    inside = torch.zeros(scores.shape, dtype=torch.bool)
    inside[kept] = True
    if inside.all() or not inside.any():
        return False
    low, high = scores[inside].min(), scores[~inside].max()
    return bool((low - high).abs() <= 1e-6 * high.abs())


def tied_layer(scores, kept, n_safe):
    """Whether a layer's kept set is one of several right ones; `n_safe` is AdaKV's safeguard, None for a scorer.

    A scorer cuts every head. AdaKV cuts all heads at once, after raising the best `n_safe` of each above the rest: a
    head that is left with those alone is cut by the safeguard.
    """
    if n_safe is None:
        return any(is_tied(row, inside) for row, inside in zip(scores, kept))
    raised = scores.scatter(-1, scores.topk(n_safe, dim=-1).indices, torch.finfo(scores.dtype).max)
    flat = [head * scores.shape[-1] + position for head, inside in enumerate(kept) for position in inside]
    safeguarded = ((row, inside) for row, inside in zip(scores, kept) if len(inside) == n_safe)
    return is_tied(raised.flatten(), flat) or any(is_tied(row, inside) for row, inside in safeguarded)


def label(params):
    return "".join(f"-{key}={value}" for key, value in params.items())


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    tensors, cases = {}, []
    for shape in ("gqa", "mha", "mqa"):
        model = AutoModelForCausalLM.from_pretrained(
            HERE / "tiny" / shape, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()
        heads = model.config.num_key_value_heads
        ratios = (0.5,) if shape == "mqa" else RATIOS

        def add(name, titled, press, params, scorer, scores_as, length, ratio):
            ids = input_ids(length)
            full = DynamicCache()
            model.model(input_ids=ids, past_key_values=full)
            scores, cache = capture(model, press, scorer, ids)
            known = tensors.setdefault(scores_as, scores)
            assert torch.equal(known, scores), f"{scores_as} differs between runs"
            n_safe = None
            if isinstance(press, AdaKVPress):
                kept = kept_by_adakv(model, heads, length)
                n_kept = compute_n_kept(length, ratio)
                n_safe = max(1, int(n_kept * press.alpha_safeguard)) if press.alpha_safeguard > 0 else 0
                assert sum(map(len, kept[0])) == heads * n_kept
            else:
                kept = kept_by_scorer(scores, ratio, cache, full)
            case = {"id": f"{shape}/{titled}/{length}/{ratio}", "shape": shape, "press": name,
                    "params": params, "ratio": ratio, "length": length, "input_ids": ids[0].tolist(), "kept": kept,
                    "scores": scores_as}
            tied = [layer for layer in range(len(kept)) if tied_layer(scores[layer], kept[layer], n_safe)]
            if tied:
                case["tied_layers"] = tied
            cases.append(case)

        for name, params, edges in SCORERS:
            for length in edges + COMMON:
                for ratio in ratios:
                    press = PRESSES[name](compression_ratio=ratio, **params)
                    scores_as = f"{shape}/{name}{label(params)}/{length}"
                    if name == "streaming_llm":
                        scores_as += f"/{ratio}"
                    add(name, f"{name}{label(params)}", press, params, press, scores_as, length, ratio)
        for name, inner, edges in INNER:
            for alpha in (0.2, 0.0, 1.0):
                for length in edges + COMMON:
                    for ratio in ratios:
                        scorer = PRESSES[name](compression_ratio=ratio, **inner)
                        params = {"press": {"name": name, **inner}, "alpha_safeguard": alpha}
                        press = AdaKVPress(scorer, alpha_safeguard=alpha)
                        scores_as = f"{shape}/{name}{label(inner)}/{length}"
                        titled = f"adakv-{alpha}({name}{label(inner)})"
                        add("adakv", titled, press, params, scorer, scores_as, length, ratio)
    for case in cases:
        assert len(case["kept"]) == 3 and tensors[case["scores"]].shape[-1] == case["length"]
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, HERE / "scores.safetensors")
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (HERE / "scores.json").write_text(f'{{"cases":[\n{lines}\n]}}\n')
    print(len(cases), "cases,", sum("tied_layers" in case for case in cases), "with ties,", len(tensors), "score tensors")


if __name__ == "__main__":
    main()
