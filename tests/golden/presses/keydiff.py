"""Nothing to set."""

from harness import cases

CASES = cases({}, lengths=(1, 5, 17, 40))
