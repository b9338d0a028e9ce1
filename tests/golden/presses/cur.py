"""Around the sinks and the local window; every kind of leverage; the random projection."""

from harness import cases

CASES = [
    *cases({}, lengths=(4, 5, 16, 17, 40)),
    *cases({"num_sinks": 2, "leverage_type": "key", "local_window_size": 8}, lengths=(17,), once=None),
    *cases({"num_sinks": 2, "leverage_type": "value", "local_window_size": 8}, lengths=(17,), once=None),
    *cases({"num_sinks": 0, "leverage_type": "kv_avg", "use_local_approximation": False}, lengths=(1, 17), once=None),
    *cases({"num_sinks": 2, "use_random_leverage": True}, lengths=(17,), once=None, seed=15),
]
