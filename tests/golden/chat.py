"""Chat template texts, token ids and decoded texts of SmolLM2's tokenizer.

usage: python chat.py FOLDER         (the model in Hugging Face layout; needs torch, transformers)

Writes chat.json: `templates` (messages, and the rendered text without and with the generation prompt), `encodings`
(text and ids, without added special tokens) and `decodings` (ids, and the text with special tokens kept and skipped,
never cleaned up). The ids are those of `tokenizer.ggml.pre = smollm`, which sets every digit apart before GPT-2's
pattern; `transformers_ids` stands where transformers' own conversion of the GGUF, which leaves that out, differs.
"""

import sys

from reference import smollm, write
from tiny import HERE
from transformers import AutoTokenizer


def say(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


MESSAGES = [
    say(("system", "You answer in one word."), ("user", "Which city is on the Tagus?")),
    say(("user", "What is 2 + 2?")),
    say(("user", "Hello!"), ("assistant", "Hello. How can I help?"), ("user", "Name three rivers."),
        ("assistant", "Tagus, Daugava, Red River."), ("user", "And one more?")),
    say(("user", "  leading and trailing \n\n\tspaces   \n")),
    say(("system", ""), ("user", "")),
    say(("system", "Réponds en français 🗼"), ("user", "日本語で「灯台」は? <b>&amp;</b> {{ not.a.template }}"),
        ("assistant", "Un phare — 灯台 (とうだい)."), ("user", "👩‍🚀 ¿Y en español?")),
]
TEXTS = [
    "", " ", "  ", "hello", " hello", "  hello", "hello ", "Hello, world!", "hello , world ! it 's n't .",
    "12345", " 12345", "a  5", "x   12", "1,234.56", "v2.0\n\n3. foo", "\n\n1", "  \n 7", "½ ²³ Ⅷ ٣٤ 五",
    "don't we'll I'M you've SHE'S 'twas", "!!!???...---___***", "a\tb\t\tc", "\n", "\n\n\n", "\r\n\r\n", "line\n    indented\n",
    "def f(x):\n    return x[0] != \"a\" # ok\n", "日本語のテキスト", "🎉👩‍🚀🇵🇹", "Größe naïve façade Æ", "Привет, мир", "مرحبا بالعالم",
    "<|im_start|>user\nhi<|im_end|>\n", "<|im_end|><|endoftext|>", "< |im_end| >", "<|im_end", "a<file_sep>b <repo_name> c",
    "…—“”‘’•", "\u00a0\u2003\u3000 \ufeff", "e\u0301 vs \u00e9", "supercalifragilisticexpialidocious", "http://example.org/a?b=1&c=%20#d",
    "\x00\x07\x7f", "\x04\x06a", "\U0001f9ed\U00040000",
]
IDS = [[], [1, 4093, 198, 6004, 2], [2, 2, 0], [28120, 2], [0, 33, 17, 2, 1], [81, 3, 82, 216, 4, 216, 83], [23274, 115, 40993],
       [23274], [115], [107, 232, 227], [28120, 28, 905, 216, 30, 216, 17]]


def main(folder: str) -> None:
    tokenizer, exact = AutoTokenizer.from_pretrained(folder), smollm(folder)
    templates, encodings, decodings = [], [], []
    for messages in MESSAGES:
        text, prompt = (tokenizer.apply_chat_template(messages, add_generation_prompt=flag, tokenize=False)
                        for flag in (False, True))
        templates.append({"messages": messages, "text": text, "with_generation_prompt": prompt})
    for text in TEXTS:
        row = {"text": text, "ids": exact.encode(text, add_special_tokens=False).ids}
        converted = tokenizer.encode(text, add_special_tokens=False)
        if converted != row["ids"]:
            row["transformers_ids"] = converted
        encodings.append(row)
    for ids in IDS + [row["ids"] for row in encodings[-14:]]:
        kept, skipped = (exact.decode(ids, skip_special_tokens=flag) for flag in (False, True))
        for flag, text in ((False, kept), (True, skipped)):
            assert text == tokenizer.decode(ids, skip_special_tokens=flag, clean_up_tokenization_spaces=False)
        decodings.append({"ids": ids, "text": kept, "skipping_special": skipped})
    write(HERE / "chat.json", {}, {"templates": templates, "encodings": encodings, "decodings": decodings})


if __name__ == "__main__":
    main(sys.argv[1])
