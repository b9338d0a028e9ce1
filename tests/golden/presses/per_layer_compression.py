"""A ratio of its own for every layer, none among them."""

from harness import cases

SNAPKV = {"name": "snapkv", "window_size": 4, "kernel_size": 3}
CASES = [
    *cases({"press": {"name": "knorm"}, "compression_ratios": [0.25, 0.5, 0.75]}, lengths=(5, 17, 40), ratios=(None,)),
    *cases({"press": SNAPKV, "compression_ratios": [0.0, 0.7, 0.3]}, lengths=(5, 17), ratios=(None,), once=None),
]
