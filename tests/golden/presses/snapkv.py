"""Around the window: the shortest context is one token longer."""

from harness import cases

CASES = [
    *cases({"window_size": 8, "kernel_size": 5}, lengths=(9, 10, 17, 40)),
    *cases({"window_size": 4, "kernel_size": 3}, lengths=(5, 6, 17), once=None),
]
