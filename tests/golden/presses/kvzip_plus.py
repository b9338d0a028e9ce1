"""As kvzip."""

from replay import ready, replayed  # noqa: F401

CASES = [
    *replayed({"chunk_size": 8, "n_sink": 1}, lengths=(5, 11), once=None),
    *replayed({"chunk_size": 8}, lengths=(17, 34)),
    *replayed({"chunk_size": 2048, "layerwise": True}, lengths=(17,), once=None),
]
