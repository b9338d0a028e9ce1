"""What the scripts share on the reference's side: the model, its tokenizer, and the gap between its two best logits."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(folder: str):
    """The float32 model with sdpa attention, and its tokenizer as transformers converted it from the GGUF."""
    torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    return model, AutoTokenizer.from_pretrained(folder)


def smollm(folder: str) -> Tokenizer:
    """The tokenizer that the GGUF's `tokenizer.ggml.pre = smollm` asks for: every digit apart, then GPT-2's pattern.

    transformers' conversion leaves the digits out, and adds five tokens that the model has no embedding for.
    """
    described = json.loads((Path(folder) / "tokenizer.json").read_text())
    described["added_tokens"] = [token for token in described["added_tokens"] if token["id"] < 49152]
    described["model"] |= {"unk_token": None, "byte_fallback": False, "fuse_unk": False}
    described["decoder"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    described["post_processor"] = None
    tokenizer = Tokenizer.from_str(json.dumps(described))
    tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    return tokenizer


def gap(logits: torch.Tensor) -> float:
    """How far the best logit lies above the second best."""
    best, second = logits.topk(2).values.tolist()
    return round(best - second, 6)


def write(path: Path, head: dict, tables: dict[str, list[dict]]) -> None:
    """JSON with one row of every table a line, so that a changed case is one changed line."""
    parts = [f"{json.dumps(key)}:{json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    for name, rows in tables.items():
        lines = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
        parts.append(f'"{name}":[\n{lines}\n]')
    path.write_text("{" + ",\n".join(parts) + "}\n", encoding="utf-8")
