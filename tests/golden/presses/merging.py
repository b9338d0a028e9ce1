"""Values that took in what was evicted; gates by similarity and by fraction."""

from harness import cases

KNORM, KEYDIFF = {"name": "knorm"}, {"name": "keydiff"}
CASES = [
    *cases({"press": KNORM}, lengths=(2, 12)),
    *cases({"press": KNORM, "similarity_threshold": 0.4}, lengths=(12,), once=None),
    *cases({"press": KNORM, "merge_fraction": 0.5}, lengths=(12,), once=None),
    *cases({"press": KEYDIFF, "similarity_threshold": 0.2, "merge_fraction": 0.75}, lengths=(9,), once=None),
]
