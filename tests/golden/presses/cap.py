"""One token beyond the sinks; another temperature."""

from harness import cases

CASES = [
    *cases({}, lengths=(5, 6, 17, 40)),
    *cases({"tau": 1.0, "n_sink": 2, "n_future_positions": 16}, lengths=(3, 17), once=None),
]
