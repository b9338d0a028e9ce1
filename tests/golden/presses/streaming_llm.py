"""One token beyond the sinks, and further."""

from harness import cases

RANKS = False  # the reference's scores mark what a ratio keeps
CASES = [
    *cases({"n_sink": 4}, lengths=(5, 6, 17, 40)),
    *cases({"n_sink": 2}, lengths=(3, 17), once=None),
]
