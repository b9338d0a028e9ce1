//! What the metadata says of the architecture, as the `config.json` and `generation_config.json` of a Llama.

use serde_json::{Map, Value, json};

use super::gguf::Gguf;
use super::rope;
use crate::error::Result;

/// Sizes of the model that decide which tensors there must be, and of which shape.
pub(super) struct Architecture {
    pub vocabulary: usize,
    pub hidden: usize,
    pub intermediate: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    context: usize,
    norm_epsilon: f64,
    rope_theta: f64,
    rope_scaling: Value,
    pub tied: bool,
    pub attention_bias: bool,
    pub mlp_bias: bool,
}

impl Architecture {
    pub fn read(gguf: &Gguf) -> Result<Self> {
        let name = gguf.need("general.architecture", gguf.text("general.architecture")?)?;
        if name != "llama" {
            return Err(gguf.bad(format!("the architecture is `{name}`; only `llama` can be imported")));
        }
        refuse_variants(gguf)?;
        let size = |key: &str| -> Result<usize> {
            match gguf.need(key, gguf.count(key)?)? {
                0 => Err(gguf.bad(format!("metadata `{key}` must not be 0"))),
                size => Ok(size),
            }
        };
        let hidden = size("llama.embedding_length")?;
        let heads = size("llama.attention.head_count")?;
        let kv_heads = gguf.count("llama.attention.head_count_kv")?.unwrap_or(heads);
        if kv_heads == 0 || heads % kv_heads != 0 {
            return Err(gguf.bad(format!("{heads} attention heads cannot share {kv_heads} KV heads evenly")));
        }
        let head_dim = gguf.count("llama.attention.key_length")?.unwrap_or(hidden / heads);
        if head_dim == 0 || head_dim % 2 != 0 {
            return Err(
                gguf.bad(format!("a head of {head_dim} channels cannot be rotated; it must be even and above 0"))
            );
        }
        for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
            if gguf.count(key)?.is_some_and(|other| other != head_dim) {
                return Err(
                    gguf.bad(format!("`{key}` differs from the head dimension {head_dim}: this is no plain Llama"))
                );
            }
        }
        let vocabulary = match gguf.count("llama.vocab_size")? {
            Some(size) => size,
            None => gguf.need("tokenizer.ggml.tokens", gguf.texts("tokenizer.ggml.tokens")?)?.len(),
        };
        if vocabulary == 0 {
            return Err(gguf.bad("the vocabulary is empty"));
        }
        let norm_epsilon = gguf
            .need("llama.attention.layer_norm_rms_epsilon", gguf.number("llama.attention.layer_norm_rms_epsilon")?)?;
        let rope_theta = gguf.number("llama.rope.freq_base")?.unwrap_or(10_000.0);
        if norm_epsilon < 0.0 || rope_theta <= 0.0 {
            return Err(gguf.bad("the epsilon of the norms must not be negative, and the rotary base must be above 0"));
        }
        let tensors = &gguf.content.tensor_infos;
        Ok(Self {
            vocabulary,
            hidden,
            intermediate: size("llama.feed_forward_length")?,
            layers: size("llama.block_count")?,
            heads,
            kv_heads,
            head_dim,
            context: size("llama.context_length")?,
            norm_epsilon,
            rope_theta,
            rope_scaling: rope::scaling(gguf, rope_theta, head_dim)?,
            tied: !tensors.contains_key("output.weight"),
            attention_bias: tensors.keys().any(|name| name.contains(".attn_") && name.ends_with(".bias")),
            mlp_bias: tensors.keys().any(|name| name.contains(".ffn_") && name.ends_with(".bias")),
        })
    }

    /// The `config.json` of `LlamaForCausalLM`; `dtype` is torch's name of the weights' type.
    pub fn config(&self, tokens: &SpecialIds, dtype: &str) -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": self.attention_bias,
            "bos_token_id": tokens.bos,
            "eos_token_id": tokens.eos.first(),
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": self.context,
            "mlp_bias": self.mlp_bias,
            "model_type": "llama",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "pad_token_id": tokens.pad,
            "rms_norm_eps": self.norm_epsilon,
            "rope_scaling": self.rope_scaling,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tied,
            "torch_dtype": dtype,
            "vocab_size": self.vocabulary,
        })
    }
}

/// The file says `llama`, but the model computes something a Llama of Hugging Face does not.
fn refuse_variants(gguf: &Gguf) -> Result<()> {
    if gguf.count("llama.expert_count")?.is_some_and(|experts| experts > 0) {
        return Err(gguf.bad("this is a mixture of experts, which is not supported"));
    }
    let window = gguf.count("llama.attention.sliding_window")?.unwrap_or(0);
    if window > 0 && gguf.count("llama.context_length")?.is_none_or(|context| window < context) {
        return Err(
            gguf.bad(format!("this model attends through a sliding window of {window}, which is not supported"))
        );
    }
    for key in ["llama.logit_scale", "llama.embedding_scale", "llama.residual_scale"] {
        if gguf.number(key)?.is_some_and(|scale| scale != 1.0) {
            return Err(gguf.bad(format!("`{key}` is set, which a Llama does not have")));
        }
    }
    Ok(())
}

/// Ids of the special tokens, each inside the vocabulary.
pub(super) struct SpecialIds {
    pub bos: Option<usize>,
    /// Every id that ends an answer: end of text first, then end of turn and end of message.
    pub eos: Vec<usize>,
    pub pad: Option<usize>,
    pub unknown: Option<usize>,
}

impl SpecialIds {
    pub fn read(gguf: &Gguf, vocabulary: usize) -> Result<Self> {
        let id = |name: &str| -> Result<Option<usize>> {
            let key = format!("tokenizer.ggml.{name}_token_id");
            match gguf.count(&key)? {
                Some(id) if id >= vocabulary => {
                    Err(gguf.bad(format!("`{key}` is {id}, outside the vocabulary of {vocabulary} tokens")))
                }
                id => Ok(id),
            }
        };
        let mut eos: Vec<usize> = Vec::new();
        for name in ["eos", "eot", "eom"] {
            eos.extend(id(name)?.filter(|id| !eos.contains(id)));
        }
        Ok(Self { bos: id("bos")?, eos, pad: id("padding")?, unknown: id("unknown")? })
    }

    /// The `generation_config.json`: where an answer ends.
    pub fn generation(&self) -> Value {
        let mut config = Map::new();
        config.extend(self.bos.map(|id| ("bos_token_id".into(), id.into())));
        config.insert("eos_token_id".into(), self.eos.clone().into());
        config.extend(self.pad.map(|id| ("pad_token_id".into(), id.into())));
        Value::Object(config)
    }
}
