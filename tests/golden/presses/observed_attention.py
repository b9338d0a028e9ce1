"""Reads the whole attention matrix."""

from harness import cases

CASES = cases({}, lengths=(1, 5, 17, 40), attention="eager")
