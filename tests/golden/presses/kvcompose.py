"""Whole tokens and head by head; every aggregation; a floor. The context itself is the prompt that is replayed."""

from harness import cases

CASES = [
    *cases({}, lengths=(2, 5, 17, 40)),
    *cases({"structured": False}, lengths=(2, 17, 40)),
    *cases({"agg_task": "mean", "agg_group": "max", "agg_head": "max", "add_v_norm": True}, lengths=(17,), once=None),
    *cases({"structured": False, "add_v_norm": True, "add_mean_across_heads": False}, lengths=(17,), once=None),
    *cases({"keep_token_lower_bound": 3}, lengths=(5, 17), once=None),
    *cases({"structured": False, "keep_token_lower_bound": 3}, lengths=(17,), once=None),
]
