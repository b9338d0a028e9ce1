"""One chunk, a full one, a rest of one token, several; heads that compete across layers and within one.

The budgets hold the sinks: kvzip says nothing of which sinks go first.
"""

from replay import ready, replayed  # noqa: F401

CASES = [
    *replayed({"chunk_size": 8, "n_sink": 1}, lengths=(5, 10, 11), once=None),
    *replayed({"chunk_size": 8}, lengths=(17, 34)),
    *replayed({"chunk_size": 8, "layerwise": True}, lengths=(17, 34), once=None),
    *replayed({"chunk_size": 2048, "n_sink": 0}, lengths=(17,), once=None),
]
