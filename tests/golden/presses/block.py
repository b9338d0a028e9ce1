"""One block, a full one, a rest of one token, several."""

from harness import cases

CASES = [
    *cases({"press": {"name": "keydiff"}, "block_size": 8}, lengths=(1, 8, 9, 17, 40)),
    *cases({"press": {"name": "knorm"}, "block_size": 5}, lengths=(11, 40), once=None),
    *cases({"press": {"name": "keydiff"}, "block_size": 128}, lengths=(17,), once=None),
]
