"""Statistics of random queries, in place of those of the context."""

from functools import cache

from harness import cases, noise
from kvpress.presses.expected_attention_with_stats import ExpectedAttentionStats

CASES = [
    *cases({}, lengths=(5, 6, 17, 40)),
    *cases({"use_covariance": False, "epsilon": 0.01, "n_sink": 2}, lengths=(3, 17), once=None),
    *cases({"use_vnorm": False, "n_sink": 0, "n_future_positions": 16}, lengths=(1, 17), once=None),
]


def side_data(model, folder):
    config = model.config
    layers, heads, channels = config.num_hidden_layers, config.num_attention_heads, config.head_dim
    stats = ExpectedAttentionStats(layers, heads, channels, "random/numbers", "tiny", 1, 40, 4)
    queries = noise(layers, heads, 40, channels)
    stats.query_mean.data = noise(layers, heads, channels)
    stats.query_cov.data = queries.transpose(-1, -2) @ queries / 40
    stats.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)


@cache
def load(folder):
    return ExpectedAttentionStats.from_pretrained(folder)


def ready(press, case, model, folder):
    press.mu, press.cov = load(folder).query_mean.data, load(folder).query_cov.data
