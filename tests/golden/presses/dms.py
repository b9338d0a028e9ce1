"""Thresholds on norms; around the window that is never evicted; in decoding too."""

from harness import cases

KNORM = {"name": "knorm"}
FED = {"question_ids": [35, 21, 15], "decode_ids": [37, 5, 36, 53, 43, 26]}
CASES = [
    *cases({"press": KNORM, "threshold": -4.0, "sliding_window_size": 4}, lengths=(4, 5, 17, 40), ratios=(None,)),
    *cases({"press": KNORM, "threshold": -5.0, "sliding_window_size": 1}, lengths=(2, 17), ratios=(None,), once=None),
    *cases(
        {"press": KNORM, "threshold": -4.5, "sliding_window_size": 4, "decoding": True},
        lengths=(3, 17), ratios=(None,), once=None, **FED,
    ),
]
