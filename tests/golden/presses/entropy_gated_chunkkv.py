"""No full chunk, one, one and a rest of one token, several; scores of both signs; a window that fills its chunk.

Of a chunk that the window fills in part, the reference may evict tokens of the window; Pressroom does not.
"""

from harness import cases

SNAPKV = {"name": "snapkv", "window_size": 5, "kernel_size": 3}
CHUNKS = {"chunk_length": 5, "low_entropy_chunk_length": 2}
CASES = [
    *cases({"press": SNAPKV, **CHUNKS}, lengths=(10, 40)),
    *cases({"press": {"name": "knorm"}, **CHUNKS}, lengths=(1, 5, 6, 17, 40), once=None),
    *cases({"press": {"name": "keydiff"}, **CHUNKS}, lengths=(4, 17, 41), once=None),
    *cases({"press": {"name": "expected_attention", "n_sink": 0}, "chunk_length": 8, "low_entropy_chunk_length": 1}, lengths=(40,), once=None),
]
