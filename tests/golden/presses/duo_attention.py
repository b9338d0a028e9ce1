"""Heads of a given pattern, one above the range that it is clipped to; around sinks and recent tokens (2 + 4)."""

import json

from harness import cases, noise
from kvpress.presses import duo_attention_press

CASES = [
    case
    for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    for case in cases({"head_compression_ratio": share}, lengths=(5, 6, 7, 17), ratios=(None,), once=None)
]


class Answer:
    """What `requests.get` gives of a file in the folder."""

    def __init__(self, path):
        self.text = open(path).read()

    def json(self):
        return json.loads(self.text)


def side_data(model, folder):
    scores = noise(model.config.num_hidden_layers, model.config.num_key_value_heads).sigmoid()
    scores[-1, 0] = 1.5
    rows = ["\t".join(f"{score:.6f}" for score in row) for row in scores.tolist()]
    (folder / "full_attention_heads.tsv").write_text("\n".join(rows) + "\n")
    (folder / "config.json").write_text(json.dumps({"sink_size": 2, "recent_size": 4}) + "\n")


def ready(press, case, model, folder):
    name = model.config.name_or_path
    duo_attention_press.PATTERNS_DICT[name] = name
    duo_attention_press.requests.get = lambda url: Answer(folder / url.rsplit("/", 1)[1])
