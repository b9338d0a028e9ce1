"""Thresholds that some layers exceed and others do not; around the shortest context that is compressed."""

from harness import cases


def layers(threshold, lengths, n_last=1, n_recent=6, n_initial=4, **extra):
    params = {"lazy_threshold": threshold, "n_last": n_last, "n_recent": n_recent, "n_initial": n_initial}
    return cases(params, lengths, ratios=(None,), **extra)


CASES = [
    *layers(0.15, lengths=(40,)),
    *layers(0.2, lengths=(40,)),
    *layers(0.6, lengths=(11, 12, 14, 20)),
    *layers(0.75, lengths=(12,)),
    *layers(1.0, lengths=(20,), once=None),
    *layers(0.45, lengths=(13, 14, 20), n_last=3, n_recent=8, n_initial=2, once=None),
    *layers(0.24, lengths=(40,), n_last=3, n_recent=8, n_initial=2, once=None),
]
