"""One chunk, a full one, a rest of one token, several.

Scorers that read queries are left out: after the first chunk the reference takes a chunk's queries for those of the
context's end, or of a context as short as the chunk, while its keys stay where they are.
"""

from harness import cases

CASES = [
    *cases({"press": {"name": "knorm"}, "chunk_length": 8}, lengths=(7, 8, 9, 40)),
    *cases({"press": {"name": "keydiff"}, "chunk_length": 6}, lengths=(7, 18), once=None),
    *cases({"press": {"name": "expected_attention", "n_sink": 2}, "chunk_length": 8}, lengths=(8,), once=None),
]
