"""One token beyond the sinks; every term of the formula on and off."""

from harness import cases

CASES = [
    *cases({}, lengths=(5, 6, 17, 40)),
    *cases({"epsilon": 0.01}, lengths=(5, 40), once=None),
    *cases({"use_covariance": False}, lengths=(5, 17), once=None),
    *cases({"use_vnorm": False}, lengths=(5, 17), once=None),
    *cases({"n_sink": 0, "n_future_positions": 16}, lengths=(1, 17), once=None),
]
