"""Not in kvpress: budgets of heads after the paper, from scores of query heads in the published format."""

import json
from dataclasses import dataclass

import torch
from harness import cases
from kvpress import ScorerPress
from kvpress.presses.base_press import BasePress
from kvpresses import PRESSES


@dataclass
class HeadKVPress(BasePress):
    press: ScorerPress = None
    beta: float = 1.2
    importance: list = None

    def kept(self, tokens: int) -> list[int]:
        kept = max(1, int(tokens * (1 - self.press.compression_ratio)))
        least = min(kept, max(1, getattr(self.press, "window_size", 0)))
        free, most, count = kept - least, tokens - least, len(self.importance)
        even = free * (1 - 1 / self.beta)
        low, high = 0.0, 1e9  # what the importance is multiplied by
        for _ in range(200):
            middle = (low + high) / 2
            parts = [min(most, even + middle * share) for share in self.importance]
            low, high = (middle, high) if sum(parts) < free * count else (low, middle)
        sums = [round(sum(parts[:end])) for end in range(count + 1)]
        return [least + end - start for start, end in zip(sums, sums[1:])]

    def compress(self, module, hidden_states, keys, values, attentions, kwargs):
        scores = self.press.score(module, hidden_states, keys, values, attentions, kwargs)
        kv_heads, tokens = keys.shape[1:3]
        kept = self.kept(tokens)[module.layer_idx * kv_heads :][:kv_heads]
        evicted = [scores[0, head].topk(tokens - count, largest=False).indices for head, count in enumerate(kept)]
        heads = torch.cat([torch.full_like(indices, head) for head, indices in enumerate(evicted)])
        module.masked_key_indices = torch.zeros_like(heads), heads, torch.cat(evicted)
        return keys, values


def side_data(model, folder):
    generator = torch.Generator().manual_seed(5)
    heads = [(layer, head) for layer in range(model.config.num_hidden_layers) for head in range(4)]
    scores = {f"{layer}-{head}": torch.rand(3, generator=generator).pow(4).tolist() for layer, head in heads}
    (folder / "head_scores.json").write_text(json.dumps(scores) + "\n")


def ready(press, case, model, folder):
    scores = json.loads((folder / "head_scores.json").read_text())
    group = 4 // model.config.num_key_value_heads
    means = torch.tensor([sum(three) / 3 for three in scores.values()], dtype=torch.float64).view(-1, group)
    press.importance = (means.sum(dim=1) / means.sum()).tolist()


PRESSES["headkv"] = HeadKVPress
SNAPKV = {"name": "snapkv", "window_size": 4, "kernel_size": 3}
CASES = [
    *cases({"press": SNAPKV}, lengths=(5, 17, 40)),
    *cases({"press": {"name": "knorm"}, "beta": 5.0}, lengths=(17,), once=None),
    *cases({"press": {"name": "knorm"}, "beta": 1.0}, lengths=(17,), once=None),
]
