"""First stages of half, none and all of the budget."""

from harness import cases

EXPECTED = {"name": "expected_attention", "use_vnorm": False}
SNAPKV = {"name": "snapkv", "window_size": 4, "kernel_size": 3}
CASES = [
    *cases({"press": EXPECTED}, lengths=(5, 17, 40)),
    *cases({"press": SNAPKV, "epsilon": 0.01}, lengths=(5, 17), once=None),
    *cases({"press": {"name": "knorm"}, "first_stage_ratio": 0.0}, lengths=(1, 17), once=None),
    *cases({"press": {"name": "knorm"}, "first_stage_ratio": 1.0}, lengths=(17,), once=None),
]
