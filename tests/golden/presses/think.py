"""Ratios of key channels (8 a head, 16 of mqa), one that removes none of 8; a window longer than the context."""

from harness import cases


def channels(ratio, window, lengths, **extra):
    params = {"key_channel_compression_ratio": ratio, "window_size": window}
    return cases(params, lengths, ratios=(None,), **extra)


CASES = [
    *channels(0.1, 4, lengths=(5,)),
    *channels(0.25, 4, lengths=(5, 17), once=None),
    *channels(0.5, 4, lengths=(1, 4, 5, 17)),
    *channels(0.5, 32, lengths=(17, 33), once=None),
    *channels(0.75, 4, lengths=(5, 17), once=None),
]
