"""A sketch wider than the keys (8 channels), and one narrower.

No shorter contexts: of fewer tokens than channels every leverage is the same, and its z-score is rounding.
"""

from harness import cases

CASES = [
    *cases({"sketch_dimension": 48}, lengths=(10, 17, 40), seed=11),
    *cases({"sketch_dimension": 4}, lengths=(10, 17), once=None, seed=12),
]
