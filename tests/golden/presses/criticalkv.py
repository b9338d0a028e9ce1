"""First stages of half, none and all of the budget; around scorers that protect nothing.

What a scorer protects, the reference weighs like everything else, and may evict; Pressroom does not.
"""

from harness import cases

EXPECTED = {"name": "expected_attention", "n_sink": 0, "use_vnorm": False}
CASES = [
    *cases({"press": EXPECTED}, lengths=(5, 17, 40)),
    *cases({"press": {"name": "keydiff"}, "epsilon": 0.01}, lengths=(5, 17), once=None),
    *cases({"press": {"name": "knorm"}, "first_stage_ratio": 0.0}, lengths=(1, 17), once=None),
    *cases({"press": {"name": "knorm"}, "first_stage_ratio": 1.0}, lengths=(17,), once=None),
]
