//! `config.json` of a Llama: one architecture whose variants are values.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::view::Geometry;

/// Largest size that any dimension may claim: far above every published model, far below overflow.
const MAX_DIMENSION: i64 = 1 << 24;

/// Shape and variants of a Llama-architecture model, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Rows of the embedding.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width of the MLP.
    pub intermediate_size: i64,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: i64,
    /// Key/value heads.
    pub num_key_value_heads: i64,
    /// Channels of a head.
    pub head_dim: i64,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Longest context the model was made for, tokens.
    pub max_position_embeddings: i64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// Whether the attention projections have biases.
    pub attention_bias: bool,
    /// Whether the MLP projections have biases.
    pub mlp_bias: bool,
    /// Whether the output projection is the embedding.
    pub tie_word_embeddings: bool,
    /// Token that starts a text, where the model has one.
    pub bos_token_id: Option<i64>,
    /// Tokens that end a text.
    pub eos_token_ids: Vec<i64>,
}

/// The rotary frequency variants, as transformers names them.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// `default`: frequencies as they are.
    Default,
    /// `linear`: positions divided by `factor`.
    Linear {
        /// Stretch of the context.
        factor: f64,
    },
    /// `dynamic`: the base grows once the sequence exceeds the trained length (NTK-aware).
    Dynamic {
        /// Stretch of the context.
        factor: f64,
    },
    /// `yarn` (Peng et al., 2023, arXiv:2309.00071).
    Yarn {
        /// Stretch of the context.
        factor: f64,
        /// Length the model was trained with before stretching.
        original_max_position_embeddings: i64,
        /// Rotations above which frequencies are left alone.
        beta_fast: f64,
        /// Rotations below which frequencies are divided by `factor`.
        beta_slow: f64,
        /// Factor of the tables; `None`: from `mscale` and `mscale_all_dim`, or the paper's formula.
        attention_factor: Option<f64>,
        /// Numerator's coefficient in the tables' factor.
        mscale: Option<f64>,
        /// Denominator's coefficient in the tables' factor.
        mscale_all_dim: Option<f64>,
        /// Whether the bounds of the ramp are rounded outwards to whole channels.
        truncate: bool,
    },
    /// `llama3`: Llama 3.1's blend between stretched and unstretched frequencies.
    Llama3 {
        /// Stretch of the context.
        factor: f64,
        /// Length the model was trained with before stretching.
        original_max_position_embeddings: i64,
        /// Wavelengths longer than the original length over this are stretched.
        low_freq_factor: f64,
        /// Wavelengths shorter than the original length over this are left alone.
        high_freq_factor: f64,
    },
}

#[derive(Deserialize)]
struct Raw {
    model_type: Option<String>,
    vocab_size: i64,
    hidden_size: i64,
    intermediate_size: i64,
    num_hidden_layers: i64,
    num_attention_heads: i64,
    num_key_value_heads: Option<i64>,
    head_dim: Option<i64>,
    #[serde(default = "default_eps")]
    rms_norm_eps: f64,
    #[serde(default = "default_positions")]
    max_position_embeddings: i64,
    rope_theta: Option<f64>,
    rope_scaling: Option<Map<String, Value>>,
    rope_parameters: Option<Map<String, Value>>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
    hidden_act: Option<String>,
    bos_token_id: Option<i64>,
    eos_token_id: Option<OneOrMany>,
    quantization_config: Option<Value>,
}

fn default_eps() -> f64 {
    1e-6
}

fn default_positions() -> i64 {
    2048
}

/// A token id or a list of them, as `eos_token_id` is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Value")]
pub(super) struct OneOrMany(pub(super) Vec<i64>);

impl From<Value> for OneOrMany {
    fn from(value: Value) -> Self {
        match value {
            Value::Array(list) => Self(list.iter().filter_map(Value::as_i64).collect()),
            other => Self(other.as_i64().into_iter().collect()),
        }
    }
}

impl LlamaConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// The file is missing or no JSON, describes another architecture, or its sizes are impossible.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        Self::parse(&text).map_err(|problem| Error::file(path, problem))
    }

    /// Parses the content of `config.json`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let raw: Raw = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if raw.model_type.as_deref() != Some("llama") {
            let found = raw.model_type.as_deref().unwrap_or("absent");
            return Err(format!("model_type is {found}; only \"llama\" is supported"));
        }
        if !matches!(raw.hidden_act.as_deref(), None | Some("silu")) {
            return Err(format!("hidden_act is {:?}; only \"silu\" is supported", raw.hidden_act.unwrap_or_default()));
        }
        if raw.quantization_config.is_some() {
            return Err("the weights are quantized (quantization_config); use the unquantized model".into());
        }
        let size = |name: &str, value: i64| {
            if (1..=MAX_DIMENSION).contains(&value) {
                Ok(value)
            } else {
                Err(format!("{name} is {value}, allowed is 1 to {MAX_DIMENSION}"))
            }
        };
        let heads = size("num_attention_heads", raw.num_attention_heads)?;
        let kv_heads = size("num_key_value_heads", raw.num_key_value_heads.unwrap_or(heads))?;
        if heads % kv_heads != 0 {
            return Err(format!("num_attention_heads ({heads}) is no multiple of num_key_value_heads ({kv_heads})"));
        }
        let hidden_size = size("hidden_size", raw.hidden_size)?;
        let head_dim = match raw.head_dim {
            Some(given) => size("head_dim", given)?,
            None if hidden_size % heads == 0 => hidden_size / heads,
            None => return Err(format!("hidden_size ({hidden_size}) is no multiple of num_attention_heads ({heads})")),
        };
        if head_dim % 2 != 0 {
            return Err(format!("head_dim is {head_dim}; rotary embedding needs an even number"));
        }
        let layers = size("num_hidden_layers", raw.num_hidden_layers)?;
        if layers > 4096 {
            return Err(format!("num_hidden_layers is {layers}, allowed is 1 to 4096"));
        }
        if !(raw.rms_norm_eps.is_finite() && raw.rms_norm_eps >= 0.0) {
            return Err(format!("rms_norm_eps is {}, a small positive number is due", raw.rms_norm_eps));
        }
        let max_position_embeddings = raw.max_position_embeddings;
        if max_position_embeddings < 1 {
            return Err(format!("max_position_embeddings is {max_position_embeddings}, at least 1 is due"));
        }
        // transformers 5 writes `rope_parameters` with the base inside; older files `rope_scaling` beside `rope_theta`.
        let rope = raw.rope_parameters.or(raw.rope_scaling).unwrap_or_default();
        let rope_theta = rope.get("rope_theta").and_then(Value::as_f64).or(raw.rope_theta).unwrap_or(10_000.0);
        if !(rope_theta.is_finite() && rope_theta > 0.0) {
            return Err(format!("rope_theta is {rope_theta}, a positive number is due"));
        }
        Ok(Self {
            vocab_size: size("vocab_size", raw.vocab_size)?,
            hidden_size,
            intermediate_size: size("intermediate_size", raw.intermediate_size)?,
            num_hidden_layers: layers as usize,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim,
            rms_norm_eps: raw.rms_norm_eps,
            max_position_embeddings,
            rope_theta,
            rope_scaling: RopeScaling::parse(&rope, max_position_embeddings)?,
            attention_bias: raw.attention_bias,
            mlp_bias: raw.mlp_bias,
            tie_word_embeddings: raw.tie_word_embeddings,
            bos_token_id: raw.bos_token_id,
            eos_token_ids: raw.eos_token_id.map(|ids| ids.0).unwrap_or_default(),
        })
    }

    /// Head counts and sizes of the attention.
    pub fn geometry(&self) -> Geometry {
        Geometry {
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
        }
    }

    /// Elements of all weights together.
    pub fn parameters(&self) -> u128 {
        let wide = |value: i64| value as u128;
        let hidden = wide(self.hidden_size);
        let (query, key) = (
            wide(self.num_attention_heads) * wide(self.head_dim),
            wide(self.num_key_value_heads) * wide(self.head_dim),
        );
        let mut layer = hidden * (2 * query + 2 * key) + 3 * hidden * wide(self.intermediate_size) + 2 * hidden;
        if self.attention_bias {
            layer += query + 2 * key + hidden;
        }
        if self.mlp_bias {
            layer += 2 * wide(self.intermediate_size) + hidden;
        }
        let embeddings = wide(self.vocab_size) * hidden * if self.tie_word_embeddings { 1 } else { 2 };
        embeddings + hidden + self.num_hidden_layers as u128 * layer
    }

    /// Elements of the keys and values of one token in all layers.
    pub fn kv_elements_per_token(&self) -> u128 {
        2 * self.num_hidden_layers as u128 * self.num_key_value_heads as u128 * self.head_dim as u128
    }
}

impl RopeScaling {
    /// From the `rope_parameters` or `rope_scaling` table.
    fn parse(table: &Map<String, Value>, max_position_embeddings: i64) -> Result<Self, String> {
        let kind = table.get("rope_type").or_else(|| table.get("type")).and_then(Value::as_str).unwrap_or("default");
        let optional = |name: &str| match table.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number.is_finite() && number >= 0.0 => Ok(Some(number)),
                _ => Err(format!("rope parameter {name} is {value}, a positive number is due")),
            },
        };
        let required = |name: &str| {
            optional(name)?
                .filter(|number| *number > 0.0)
                .ok_or_else(|| format!("rope type {kind} needs a positive {name}"))
        };
        let original = || match optional("original_max_position_embeddings")? {
            None => Ok(max_position_embeddings),
            Some(length) if length >= 1.0 => Ok(length as i64),
            Some(length) => Err(format!("original_max_position_embeddings is {length}, at least 1 is due")),
        };
        Ok(match kind {
            "default" => Self::Default,
            "linear" => Self::Linear { factor: required("factor")? },
            "dynamic" => Self::Dynamic { factor: required("factor")? },
            "yarn" => Self::Yarn {
                factor: required("factor")?,
                original_max_position_embeddings: original()?,
                beta_fast: optional("beta_fast")?.filter(|beta| *beta > 0.0).unwrap_or(32.0),
                beta_slow: optional("beta_slow")?.filter(|beta| *beta > 0.0).unwrap_or(1.0),
                attention_factor: optional("attention_factor")?,
                mscale: optional("mscale")?.filter(|scale| *scale > 0.0),
                mscale_all_dim: optional("mscale_all_dim")?.filter(|scale| *scale > 0.0),
                truncate: table.get("truncate").and_then(Value::as_bool).unwrap_or(true),
            },
            "llama3" => {
                let (low, high) = (required("low_freq_factor")?, required("high_freq_factor")?);
                if low >= high {
                    return Err(format!(
                        "rope type llama3: low_freq_factor ({low}) must be below high_freq_factor ({high})"
                    ));
                }
                Self::Llama3 {
                    factor: required("factor")?,
                    original_max_position_embeddings: original()?,
                    low_freq_factor: low,
                    high_freq_factor: high,
                }
            }
            other => {
                return Err(format!("rope type {other:?} is not one of default, linear, dynamic, yarn, llama3"));
            }
        })
    }

    /// Name in configuration files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Linear { .. } => "linear",
            Self::Dynamic { .. } => "dynamic",
            Self::Yarn { .. } => "yarn",
            Self::Llama3 { .. } => "llama3",
        }
    }
}
