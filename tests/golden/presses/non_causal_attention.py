"""One chunk, a full chunk, one token beyond, and several."""

from harness import cases

CASES = [
    *cases({"chunk_size": 8}, lengths=(5, 8, 9, 16, 40)),
    *cases({"chunk_size": 256}, lengths=(17,), once=None),
]
