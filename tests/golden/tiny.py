"""Tiny random Llamas and the logits transformers gives for them under every rope type.

usage: python tiny.py            (needs torch, transformers, safetensors)

Writes, next to this file: tiny/<shape>/{config.json,model.safetensors}, logits.safetensors (one [tokens, vocab]
float32 tensor per case) and logits.json (the rope part of the config, in both spellings, and the input ids).
"""

import copy
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
VOCAB, TOKENS, MAX_POSITIONS, THETA = 64, 48, 32, 10000.0

BASE = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=3,
    max_position_embeddings=MAX_POSITIONS,
    rms_norm_eps=1e-5,
    bos_token_id=1,
    eos_token_id=2,
)
SHAPES = {
    "mha": dict(num_attention_heads=4, num_key_value_heads=4),
    "gqa": dict(num_attention_heads=4, num_key_value_heads=2),
    "mqa": dict(
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=16,
        attention_bias=True,
        mlp_bias=True,
        tie_word_embeddings=True,
    ),
}
# name -> the older `rope_scaling` value (rope_theta stays beside it at the top level of config.json); the oldest
# configs spell its kind `type`
ROPES = {
    "default": None,
    "linear": {"type": "linear", "factor": 4.0},
    "dynamic": {"type": "dynamic", "factor": 2.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0},
    "yarn-original": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8},
    "yarn-beta": {
        "rope_type": "yarn",
        "factor": 4.0,
        "beta_fast": 8.0,
        "beta_slow": 0.5,
        "attention_factor": 0.8,
        "original_max_position_embeddings": 16,
    },
    "yarn-mscale": {
        "rope_type": "yarn",
        "factor": 8.0,
        "mscale": 0.7,
        "mscale_all_dim": 0.4,
        "original_max_position_embeddings": 16,
    },
    "yarn-no-truncate": {"rope_type": "yarn", "factor": 2.0, "truncate": False, "original_max_position_embeddings": 32},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
}


def input_ids(tokens: int = TOKENS) -> torch.Tensor:
    """The one input of every tiny model, [1, tokens], all distinct: equal tokens would tie key norms in layer 0."""
    return torch.randperm(VOCAB, generator=torch.Generator().manual_seed(48))[None, :tokens]


def fill(model: LlamaForCausalLM, seed: int) -> None:
    """Weights large enough that attention and logits are far from uniform; norms and biases are random too."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 1.0 + 0.3 * noise if "norm" in name else 0.3 * noise


def with_rope(shape: str, model: LlamaForCausalLM, **rope) -> LlamaForCausalLM:
    """A fresh model with the same weights and another rope: fresh, because a dynamic rope remembers past lengths."""
    other = LlamaForCausalLM(LlamaConfig(**BASE, **SHAPES[shape], **rope)).eval()
    other.load_state_dict(model.state_dict())
    return other


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    ids, logits, cases = input_ids(), {}, []
    for seed, shape in enumerate(SHAPES):
        model = LlamaForCausalLM(LlamaConfig(**BASE, **SHAPES[shape], rope_theta=THETA)).eval()
        fill(model, seed)
        model.save_pretrained(HERE / "tiny" / shape)
        (HERE / "tiny" / shape / "generation_config.json").unlink(missing_ok=True)
        for rope, scaling in ROPES.items():
            older = {"rope_theta": THETA, "rope_scaling": scaling}
            modern = {("rope_type" if key == "type" else key): value for key, value in (scaling or {}).items()}
            one = with_rope(shape, model, rope_parameters={"rope_theta": THETA, **modern})
            written = one.config.to_dict()["rope_parameters"]
            out = one(ids, use_cache=False).logits[0]
            again = with_rope(shape, model, **copy.deepcopy(older))(ids, use_cache=False).logits[0]
            assert torch.equal(out, again), f"{shape}/{rope}: the two spellings disagree"
            if rope != "default":
                assert (out - logits[f"{shape}/default"]).abs().max() > 0.05, f"{shape}/{rope} changes nothing"
            logits[f"{shape}/{rope}"] = out.contiguous()
            cases.append({"shape": shape, "rope": rope, "older": older, "rope_parameters": written,
                          "logits": f"{shape}/{rope}"})
    save_file(logits, HERE / "logits.safetensors")
    lines = ",\n".join(json.dumps(case) for case in cases)
    (HERE / "logits.json").write_text(f'{{"input_ids": {ids[0].tolist()},\n"cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
