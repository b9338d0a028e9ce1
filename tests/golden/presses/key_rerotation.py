"""Keys turned to the positions 0, 1, .. of what is kept."""

from harness import cases

CASES = [
    *cases({"press": {"name": "knorm"}}, lengths=(1, 5, 12)),
    *cases({"press": {"name": "snapkv", "window_size": 4, "kernel_size": 3}}, lengths=(5, 12), once=None),
]
