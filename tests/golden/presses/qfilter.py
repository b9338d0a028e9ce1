"""Filters of random numbers."""

from functools import cache

from harness import cases, noise
from kvpress.presses.qfilter_press import QFilterPress, QFilters

CASES = cases({}, lengths=(1, 5, 17, 40))


def side_data(model, folder):
    config = model.config
    filters = QFilters(config.num_hidden_layers, config.num_key_value_heads, config.head_dim)
    filters.q_filters.data = noise(*filters.q_filters.shape)
    filters.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)


@cache
def load(folder):
    return QFilters.from_pretrained(folder).q_filters


def ready(press, case, model, folder):
    QFilterPress.load_q_filters = staticmethod(lambda _: load(folder))
