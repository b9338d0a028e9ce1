"""Not in kvpress: the authors' proxy tokens and random eviction, the draw as an exponential race over all tokens."""

from dataclasses import dataclass

import torch
from harness import cases
from kvpress import ScorerPress
from kvpresses import PRESSES


@dataclass
class NaclPress(ScorerPress):
    proxy_tokens: int = 64
    random_ratio: float = 0.37

    def score(self, module, hidden_states, keys, values, attentions, kwargs):
        batch, kv_heads, tokens, _ = keys.shape
        weights = attentions[:, :, -self.proxy_tokens :].view(batch, kv_heads, -1, self.proxy_tokens, tokens)
        attention = weights.sum(dim=3).mean(dim=2)
        scores = torch.log1p(-torch.rand(batch, kv_heads, tokens)) * (-attention).exp()
        kept = max(1, int(tokens * (1 - self.compression_ratio)))
        free = max(0, kept - self.proxy_tokens)
        chosen = self.proxy_tokens + free - int(free * self.random_ratio)
        judged = attention.clone()
        judged[..., tokens - self.proxy_tokens :] = judged.max() + 1
        best = judged.topk(chosen).indices
        return scores.scatter(2, best, judged.gather(2, best))


PRESSES["nacl"] = NaclPress
CASES = [
    *cases({"proxy_tokens": 4}, lengths=(5, 17, 40), attention="eager", seed=21),
    *cases({"proxy_tokens": 2, "random_ratio": 1.0}, lengths=(17,), once=None, attention="eager", seed=22),
    *cases({"proxy_tokens": 2, "random_ratio": 0.0}, lengths=(17,), once=None, attention="eager", seed=23),
]
