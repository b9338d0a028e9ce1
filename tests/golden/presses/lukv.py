"""A curve of random budgets that rise with the ratio; around sinks and window."""

import numpy
from harness import cases, noise

EXPECTED = {"name": "expected_attention", "epsilon": 0.02}
CASES = [
    *cases({"press": EXPECTED}, lengths=(5, 6, 17, 40)),
    *cases({"press": {"name": "knorm"}, "sink": 0, "window": 0}, lengths=(2, 17), once=None),
]


def side_data(model, folder):
    heads = noise(model.config.num_hidden_layers, model.config.num_key_value_heads).sigmoid().numpy()
    ratios = numpy.arange(1, 100)[:, None, None] / 100
    numpy.save(folder / "curve.npy", (ratios ** (0.5 + heads)).astype(numpy.float64))


def ready(press, case, model, folder):
    press._budget_curves = numpy.load(folder / "curve.npy")
