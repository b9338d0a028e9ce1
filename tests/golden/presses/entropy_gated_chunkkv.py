"""No full chunk, one, one and a rest of one token, several; scores of both signs."""

from harness import cases

SNAPKV = {"name": "snapkv", "window_size": 4, "kernel_size": 3}
EXPECTED = {"name": "expected_attention"}
CHUNKS = {"chunk_length": 5, "low_entropy_chunk_length": 2}
CASES = [
    *cases({"press": SNAPKV, **CHUNKS}, lengths=(5, 6, 17, 40)),
    *cases({"press": {"name": "keydiff"}, **CHUNKS}, lengths=(4, 17, 41), once=None),
    *cases({"press": EXPECTED, "chunk_length": 8, "low_entropy_chunk_length": 1}, lengths=(40,), once=None),
]
