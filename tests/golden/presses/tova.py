"""The last token votes, so there must be another."""

from harness import cases

CASES = cases({}, lengths=(2, 5, 17, 40))
