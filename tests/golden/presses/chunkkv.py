"""No full chunk, one, one and a rest, several; around a scorer that always keeps a window."""

from harness import cases

SNAPKV = {"name": "snapkv", "window_size": 4, "kernel_size": 3}
CASES = [
    *cases({"press": {"name": "knorm"}, "chunk_length": 5}, lengths=(4, 5, 6, 17, 40)),
    *cases({"press": SNAPKV, "chunk_length": 5}, lengths=(5, 17, 40), once=None),
]
