"""Not in kvpress: accumulated attention as the paper has it, from the naive softmax that transformers' eager mode gives."""

from dataclasses import dataclass

from harness import cases
from kvpress import ScorerPress
from kvpresses import PRESSES


@dataclass
class H2OPress(ScorerPress):
    recent_ratio: float = 0.5

    def score(self, module, hidden_states, keys, values, attentions, kwargs):
        batch, kv_heads, tokens, _ = keys.shape
        scores = attentions.sum(dim=2).view(batch, kv_heads, -1, tokens).mean(dim=2)
        recent = int(max(1, int(tokens * (1 - self.compression_ratio))) * self.recent_ratio)
        scores[..., tokens - recent :] = scores.max() + 1
        return scores


PRESSES["h2o"] = H2OPress
CASES = [
    *cases({}, lengths=(1, 5, 17, 40), attention="eager"),
    *cases({"recent_ratio": 0.0}, lengths=(17,), once=None, attention="eager"),
    *cases({"recent_ratio": 1.0}, lengths=(17,), once=None, attention="eager"),
]
