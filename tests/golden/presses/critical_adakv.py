"""Safeguards and first stages, each on and off."""

from harness import cases

EXPECTED = {"name": "expected_attention", "use_vnorm": False}
SNAPKV = {"name": "snapkv", "window_size": 4, "kernel_size": 3}
CASES = [
    *cases({"press": EXPECTED}, lengths=(5, 17, 40)),
    *cases({"press": SNAPKV, "alpha_safeguard": 0.0}, lengths=(17, 40), once=None),
    *cases({"press": SNAPKV, "alpha_safeguard": 0.5, "epsilon": 0.01}, lengths=(9, 40), once=None),
    *cases({"press": SNAPKV, "first_stage_ratio": 0.0}, lengths=(17,), once=None),
]
