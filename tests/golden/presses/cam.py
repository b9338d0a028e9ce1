"""Merging by lot in decoding; the lots are drawn right after the scores, so by the same seed."""

from harness import cases

FED = {"question_ids": [35, 21, 15], "decode_ids": [37, 5, 36, 53, 43, 26, 50, 41]}


def decoded(base, lengths, **params):
    return cases({"base_press": base, **params}, lengths, ratios=(None,), once=None, seed=16, **FED)


CASES = [
    *decoded({"name": "knorm"}, (5, 17), compression_interval=3, target_size=10, merge_budget=4),
    *decoded({"name": "knorm"}, (8,), compression_interval=1, target_size=8, merge_budget=32),
    *decoded({"name": "streaming_llm"}, (17,), compression_interval=4, target_size=10, merge_budget=2),
]
