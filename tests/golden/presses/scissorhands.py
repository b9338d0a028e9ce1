"""Not in kvpress: counts over the history window as in the paper's algorithm, query by query from the naive softmax."""

from dataclasses import dataclass

import torch
from harness import cases
from kvpress import ScorerPress
from kvpresses import PRESSES


@dataclass
class ScissorhandsPress(ScorerPress):
    history_window: int = 400
    recent_window: int = 10

    def score(self, module, hidden_states, keys, values, attentions, kwargs):
        batch, kv_heads, tokens, _ = keys.shape
        counts = torch.zeros(batch, attentions.shape[1], tokens)
        for query in range(max(0, tokens - self.history_window), tokens):
            counts += attentions[:, :, query] >= 1 / (query + 1)
        scores = counts.view(batch, kv_heads, -1, tokens).mean(dim=2)
        scores[..., tokens - self.recent_window :] = scores.max() + 1
        return scores


PRESSES["scissorhands"] = ScissorhandsPress
CASES = [
    *cases({"history_window": 6, "recent_window": 3}, lengths=(4, 6, 17, 40), attention="eager"),
    *cases({}, lengths=(11, 40), once=None, attention="eager"),
]
