#!/usr/bin/env python3
"""Write a Llama with random weights of any shape, for measuring: in bf16, beside the tokenizer of the packed model.

usage: random_model.py FOLDER [--hidden 4096] [--mlp 14336] [--layers 32] [--heads 32] [--kv-heads 8] [--head-dim 128]
"""
import argparse
import json
import shutil
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent


def shapes(config):
    hidden, mlp, dim = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    query, key = config["num_attention_heads"] * dim, config["num_key_value_heads"] * dim
    yield "model.embed_tokens.weight", [config["vocab_size"], hidden]
    yield "model.norm.weight", [hidden]
    yield "lm_head.weight", [config["vocab_size"], hidden]
    for layer in range(config["num_hidden_layers"]):
        sizes = {"self_attn.q_proj": [query, hidden], "self_attn.k_proj": [key, hidden],
                 "self_attn.v_proj": [key, hidden], "self_attn.o_proj": [hidden, query],
                 "mlp.gate_proj": [mlp, hidden], "mlp.up_proj": [mlp, hidden], "mlp.down_proj": [hidden, mlp],
                 "input_layernorm": [hidden], "post_attention_layernorm": [hidden]}
        for name, size in sizes.items():
            yield f"model.layers.{layer}.{name}.weight", size


def main():
    options = argparse.ArgumentParser(description="see the head of this file")
    options.add_argument("folder", type=Path)
    defaults = {"hidden": 4096, "mlp": 14336, "layers": 32, "heads": 32, "kv-heads": 8, "head-dim": 128}
    for name, value in defaults.items():
        options.add_argument(f"--{name}", type=int, default=value)
    options = options.parse_args()
    packed = HERE / "models" / "smollm2-135m-instruct"
    config = json.loads((packed / "config.json").read_text()) | {
        "hidden_size": options.hidden, "intermediate_size": options.mlp, "num_hidden_layers": options.layers,
        "num_attention_heads": options.heads, "num_key_value_heads": options.kv_heads, "head_dim": options.head_dim,
        "max_position_embeddings": 1 << 20, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }
    options.folder.mkdir(parents=True)
    (options.folder / "config.json").write_text(json.dumps(config, indent=1))
    for path in packed.iterdir():
        if path.name != "config.json" and path.suffix != ".safetensors":
            shutil.copy(path, options.folder)
    # The format: the length of a JSON header, the header, the tensors. Written one by one, whatever the size.
    header, end = {}, 0
    for name, size in shapes(config):
        length = 2 * torch.Size(size).numel()
        header[name] = {"dtype": "BF16", "shape": size, "data_offsets": [end, end + length]}
        end += length
    text = json.dumps(header).encode()
    torch.manual_seed(0)
    with open(options.folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, size in shapes(config):
            weight = torch.ones(size) if len(size) == 1 else torch.randn(size) * size[-1] ** -0.5
            file.write(weight.bfloat16().view(torch.uint8).numpy().tobytes())
    print(f"{options.folder}: {end / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
