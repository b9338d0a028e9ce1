"""The target follows what was seen."""

from harness import cases

FED = {"question_ids": [35, 21, 15], "decode_ids": [37, 5, 36, 53, 43, 26, 50, 41]}


def decoded(base, lengths, **params):
    return cases({"base_press": base, **params}, lengths, ratios=(None,), once=None, **FED)


CASES = [
    *decoded({"name": "knorm"}, (5, 17), compression_interval=3, target_compression_ratio=0.5),
    *decoded({"name": "keydiff"}, (17,), compression_interval=1, target_compression_ratio=0.25),
    *decoded({"name": "tova"}, (17,), compression_interval=4, target_compression_ratio=0.75),
]
