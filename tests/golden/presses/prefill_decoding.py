"""A press for the context and one for the decoding, and either alone."""

from harness import cases

FED = {"question_ids": [35, 21, 15], "decode_ids": [37, 5, 36, 53, 43, 26, 50, 41]}
SNAPKV = {"name": "snapkv", "window_size": 4, "kernel_size": 3, "compression_ratio": 0.5}
DECODING = {"name": "decoding", "base_press": {"name": "knorm"}, "compression_interval": 3, "target_size": 9}


def decoded(lengths, **params):
    return cases(params, lengths, ratios=(None,), once=None, **FED)


CASES = [
    *decoded((5, 17), prefilling_press=SNAPKV, decoding_press=DECODING),
    *decoded((17,), prefilling_press={"name": "keydiff", "compression_ratio": 0.25}, decoding_press=DECODING),
    *decoded((17,), decoding_press=DECODING),
    *decoded((17,), prefilling_press=SNAPKV),
]
