"""Chains that kvpress can compute: each member after the first reads keys and values alone, or is think."""

from harness import cases

SNAPKV = {"name": "snapkv", "window_size": 4, "kernel_size": 3, "compression_ratio": 0.25}
KNORM = {"name": "knorm", "compression_ratio": 0.5}
KEYDIFF = {"name": "keydiff", "compression_ratio": 0.3}
THINK = {"name": "think", "key_channel_compression_ratio": 0.5, "window_size": 4}
CASES = [
    *cases({"presses": [SNAPKV, THINK]}, lengths=(5, 17, 40), ratios=(None,)),
    *cases({"presses": [SNAPKV, KNORM, KEYDIFF]}, lengths=(5, 17, 40), ratios=(None,)),
    *cases({"presses": [KNORM, KEYDIFF, THINK]}, lengths=(17, 40), ratios=(None,), once=None),
]
