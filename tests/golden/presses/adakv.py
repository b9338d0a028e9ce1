"""Safeguards: the default, none, and one that leaves no choice; around a scorer that always keeps a window or sinks."""

from harness import cases

KNORM = {"name": "knorm"}
SNAPKV = {"name": "snapkv", "window_size": 8, "kernel_size": 5}
EXPECTED = {"name": "expected_attention", "epsilon": 0.01}
CASES = [
    *cases({"press": KNORM, "alpha_safeguard": 0.2}, lengths=(5, 17, 40)),
    *cases({"press": SNAPKV, "alpha_safeguard": 0.2}, lengths=(9, 17, 40), once=None),
    *cases({"press": EXPECTED, "alpha_safeguard": 0.2}, lengths=(5, 17), once=None),
    *cases({"press": KNORM, "alpha_safeguard": 0.0}, lengths=(5, 40), once=None),
    *cases({"press": EXPECTED, "alpha_safeguard": 1.0}, lengths=(17,), once=None),
]
