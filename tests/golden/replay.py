"""For presses that replay the context: what their prompts are on the tiny Llamas, which have no tokenizer.

A case states the ids under `replay`: the context starts with `prefix_tokens` of the chat template, and a chunk of it is
asked for by `first_prompt_ids` or, after the first, by `next_prompt_ids` and the end of the chunk before; then come
`suffix_ids`, the template's, and the chunk. The tokens are none of the contexts'.
"""

import torch
from harness import cases
from kvpress.presses import kvzip_press

REPLAY = {"prefix_tokens": 2, "suffix_ids": [61, 7], "first_prompt_ids": [35, 21, 15], "next_prompt_ids": [36, 53]}
TEXTS = {
    "<suffix>": "suffix_ids",
    "\n\nRepeat the previous context exactly.": "first_prompt_ids",
    "\n\nRepeat the part of the previous context exactly, starting with": "next_prompt_ids",
}


class Tokenizer:
    """Answers the presses' questions to the tokenizer of a model with the ids of a case."""

    chat_template = "<prefix>..<suffix>"

    def __init__(self, replay: dict):
        self.ids = {text: replay[name] for text, name in TEXTS.items()} | {"<prefix>": [0] * replay["prefix_tokens"]}

    def apply_chat_template(self, messages, **_):
        return f"<prefix>{messages[0]['content']}<suffix>"

    def encode(self, text, **_):
        return torch.tensor([self.ids[text]], dtype=torch.long)


class AutoTokenizer:
    replay = REPLAY

    @classmethod
    def from_pretrained(cls, _):
        return Tokenizer(cls.replay)


def replayed(params, lengths, **extra):
    return cases(params, lengths, replay=REPLAY, **extra)


def ready(*_):
    kvzip_press.AutoTokenizer = AutoTokenizer
