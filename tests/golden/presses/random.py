"""Its own seed."""

from harness import cases

CASES = cases({"seed": 7}, lengths=(5, 17, 40))
