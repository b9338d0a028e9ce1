"""Context, delimiter, question of four tokens; the delimiter leaves the sequence before the first layer.

`window_size` is what the press finds behind the delimiter.
"""

from harness import SPARE_ID, cases

WINDOW = 4


def asked(params, lengths, **extra):
    """The lengths are those that the model sees, without the delimiter."""
    for case in cases(params, lengths, delimiter_id=SPARE_ID, window_size=WINDOW, **extra):
        ids = case["input_ids"]
        yield {**case, "input_ids": ids[:-WINDOW] + [SPARE_ID] + ids[-WINDOW:]}


def ready(press, case, *_):
    press.delimiter_token_id = case["delimiter_id"]


CASES = [
    *asked({}, lengths=(5, 12)),
    *asked({"rerotate_keys": False}, lengths=(5, 17, 40), once=None),
    *asked({"rerotate_keys": False, "normalize_scores": False}, lengths=(17,), once=None),
    *asked({"rerotate_keys": False, "chunk_length": 18}, lengths=(18, 19, 40), once=None),
]
