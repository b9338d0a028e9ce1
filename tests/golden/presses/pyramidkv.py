"""Pyramids steep and gentle, one whose widest layer keeps everything, and the even share of a context too short."""

from harness import cases

CASES = [
    *cases({"window_size": 2, "kernel_size": 3, "beta": 20}, lengths=(3, 17, 40)),
    *cases({"window_size": 2, "kernel_size": 3, "beta": 2}, lengths=(17, 40), once=None),
    *cases({"window_size": 8, "kernel_size": 5, "beta": 1}, lengths=(9, 40), once=None),
]
