"""Safeguards and first stages, each on and off; around scorers that protect nothing.

What a scorer protects, the reference weighs like everything else, and may evict; Pressroom does not.
"""

from harness import cases

EXPECTED = {"name": "expected_attention", "n_sink": 0, "use_vnorm": False}
KNORM = {"name": "knorm"}
CASES = [
    *cases({"press": EXPECTED}, lengths=(5, 17, 40)),
    *cases({"press": EXPECTED, "alpha_safeguard": 0.0}, lengths=(17, 40), once=None),
    *cases({"press": KNORM, "alpha_safeguard": 0.5, "epsilon": 0.01}, lengths=(9, 40), once=None),
    *cases({"press": KNORM, "first_stage_ratio": 0.0}, lengths=(17,), once=None),
]
