"""A sketch wider than the keys (8 channels), and one narrower."""

from harness import cases

CASES = [
    *cases({"sketch_dimension": 48}, lengths=(5, 17, 40), seed=11),
    *cases({"sketch_dimension": 4}, lengths=(5, 17), once=None, seed=12),
]
