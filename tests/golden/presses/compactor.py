"""One token between the protected ends, and more; the blending that follows the ratio, and one that does not.

Of few tokens between the ends the leverages are all the same, and their z-scores rounding: of one they are zero.
"""

from harness import cases

ENDS = {"sink_size_start": 4, "sink_size_end": 2}
CASES = [
    *cases({**ENDS, "chunk_size": 8, "sketch_dimension": 4}, lengths=(7, 17, 40), seed=13),
    *cases({**ENDS, "chunk_size": 8, "sketch_dimension": 4, "blending": 0.35}, lengths=(14, 17), once=None, seed=13),
    *cases({}, lengths=(40,), once=None, seed=14),
]
