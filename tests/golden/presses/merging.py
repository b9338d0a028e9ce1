"""Values that took in what was evicted; gates by similarity and by fraction.

Cases where more tokens fail the first gate than the second lets go are left out: there the reference's quantile is NaN and it merges nothing.
"""

from harness import cases

KNORM, KEYDIFF = {"name": "knorm"}, {"name": "keydiff"}
CASES = [
    *cases({"press": KNORM}, lengths=(2, 12)),
    *cases({"press": KNORM, "similarity_threshold": 0.4}, lengths=(12,), once=None),
    *cases({"press": KNORM, "merge_fraction": 0.5}, lengths=(12,), once=None),
    *cases({"press": KEYDIFF, "merge_fraction": 0.75}, lengths=(9,), ratios=(0.25,), once=None),
]
