"""The shortest context with a partition to score, one token less, and a last partition that is not full."""

from harness import cases

CASES = [
    *cases({"n_sink": 4, "lag_size": 8}, lengths=(3, 19, 20, 27, 40)),
    *cases({"n_sink": 2, "lag_size": 4, "cross_scoring": True}, lengths=(10, 25), once=None),
]
