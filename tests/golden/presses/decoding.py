"""Intervals of one step and of three; a context above and one below the target; a question longer than the target."""

from harness import cases

FED = {"question_ids": [35, 21, 15], "decode_ids": [37, 5, 36, 53, 43, 26, 50, 41]}


def decoded(base, lengths, **params):
    return cases({"base_press": base, **params}, lengths, ratios=(None,), once=None, **FED)


CASES = [
    *decoded({"name": "knorm"}, (5, 17), compression_interval=3, target_size=10),
    *decoded({"name": "knorm"}, (8,), compression_interval=1, target_size=8),
    *decoded({"name": "keydiff"}, (17,), compression_interval=4, target_size=3),
    *decoded({"name": "streaming_llm"}, (17,), compression_interval=3, target_size=10),
    *decoded({"name": "tova"}, (17,), compression_interval=3, target_size=10, hidden_states_buffer_size=2),
]
