//! Random tensors and the tiny grouped-query model.

use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use pressroom::cache::KvCache;
use pressroom::model::{Llama, LlamaConfig, LoadOptions, ModelFolder, Rotary};
use pressroom::press::{RaggedIndices, Selection};
use pressroom::random;
use pressroom::view::{Geometry, LayerView, Materialised};
use tch::{Device, Kind, Tensor};

/// Uniform values in `[-1, 1)`.
pub fn values(seed: u64, shape: &[i64]) -> Tensor {
    random::uniform(seed, shape, Device::Cpu).unwrap() * 2.0 - 1.0
}

/// `tests/golden/<name>`.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// The tiny model with 4 query heads and 2 KV heads.
pub fn tiny() -> Llama {
    tiny_in(Kind::Float)
}

/// The same in another dtype.
pub fn tiny_in(kind: Kind) -> Llama {
    let options = LoadOptions { placement: Device::Cpu.into(), kind, progress: ProgressBar::hidden() };
    Llama::load(&ModelFolder::read(&golden("tiny/gqa")).unwrap(), &options).unwrap()
}

/// Geometry of [`tiny`] and of the views made here.
pub const GEOMETRY: Geometry = Geometry { layers: 3, heads: 4, kv_heads: 2, head_dim: 8 };

/// Width of the hidden states of [`tiny`].
pub const HIDDEN: i64 = 32;

/// A rotary embedding for [`GEOMETRY`].
pub fn rotary() -> Rotary {
    let config = r#"{"model_type": "llama", "vocab_size": 8, "hidden_size": 32, "intermediate_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}"#;
    Rotary::new(&LlamaConfig::parse(config).unwrap(), Device::Cpu).unwrap()
}

/// What a layer computes of a context, `[batch, heads, tokens, 8]`, hidden states `[batch, tokens, 32]`.
pub struct Layer {
    pub keys: Tensor,
    pub values: Tensor,
    pub queries: Tensor,
    pub hidden_states: Tensor,
}

impl Layer {
    /// Random, of some magnitude.
    pub fn new(seed: u64, batch: i64, tokens: i64, scale: f64, kind: Kind) -> Self {
        let draw = |part: u64, shape: &[i64]| (values(seed * 4 + part, shape) * scale).to_kind(kind);
        let heads = |part: u64, heads: i64| draw(part, &[batch, heads, tokens, GEOMETRY.head_dim]);
        let hidden_states = draw(3, &[batch, tokens, HIDDEN]);
        Self { keys: heads(0, 2), values: heads(1, 2), queries: heads(2, 4), hidden_states }
    }

    /// All parts changed alike; `along` tells the dimension of tokens.
    pub fn map(&self, change: impl Fn(&Tensor, i64) -> Tensor) -> Self {
        Self {
            keys: change(&self.keys, 2),
            values: change(&self.values, 2),
            queries: change(&self.queries, 2),
            hidden_states: change(&self.hidden_states, 1),
        }
    }

    /// One sequence of the batch.
    pub fn sequence(&self, index: i64) -> Self {
        self.map(|part, _| part.narrow(0, index, 1))
    }

    /// The first token again and again.
    pub fn repeated(&self) -> Self {
        self.map(|part, along| part.narrow(along, 0, 1).expand_as(part).contiguous())
    }

    /// A view of the first layer.
    pub fn view<'a>(&self, rotary: &'a Rotary) -> LayerView<'a> {
        self.view_of_layer(0, rotary)
    }

    /// A view with everything materialised: attention by the plain softmax of the causal scores.
    pub fn view_of_layer<'a>(&self, index: usize, rotary: &'a Rotary) -> LayerView<'a> {
        let tokens = self.keys.size()[2];
        let positions = Tensor::arange(tokens, (Kind::Int64, Device::Cpu));
        let (cos, sin) = rotary.tables(&positions, Kind::Float).unwrap();
        let queries = Rotary::rotate(&self.queries.to_kind(Kind::Float), &cos, &sin).unwrap();
        let keys = self.keys.to_kind(Kind::Float).repeat_interleave_self_int(GEOMETRY.group(), 1, None);
        let logits = queries.matmul(&keys.transpose(2, 3)) / (GEOMETRY.head_dim as f64).sqrt();
        let future = Tensor::ones([tokens, tokens], (Kind::Bool, Device::Cpu)).triu(1);
        let attention = logits.masked_fill(&future, f64::NEG_INFINITY).softmax(-1, Kind::Float);
        let parts = Materialised {
            hidden_states: Some(self.hidden_states.shallow_clone()),
            queries: Some(self.queries.shallow_clone()),
            attention_sums: Some(attention.sum_dim_intlist([2i64].as_slice(), false, Kind::Float)),
            attention: Some(attention),
            // The same numbers in every dtype.
            output_projection: Some(values(77, &[HIDDEN, HIDDEN]).to_kind(Kind::BFloat16).to_kind(self.keys.kind())),
            observed_tokens: None,
        };
        let (keys, values) = (self.keys.shallow_clone(), self.values.shallow_clone());
        LayerView::new(index, GEOMETRY, keys, values, parts, rotary).unwrap().with_question(QUESTION)
    }
}

/// Tokens of the visible question at the end of every view.
pub const QUESTION: i64 = 3;

/// A view of random tensors of one sequence.
pub fn view(seed: u64, tokens: i64, rotary: &Rotary) -> LayerView<'_> {
    Layer::new(seed, 1, tokens, 1.0, Kind::Float).view(rotary)
}

/// The cache that is left of `full` when the same positions are kept.
pub fn keep(full: &KvCache, decisions: &[Vec<Vec<i64>>]) -> KvCache {
    let layers = full.layers().iter().zip(decisions).map(|(layer, kept)| {
        let mut indptr = vec![0];
        indptr.extend(kept.iter().scan(0, |end, head| {
            *end += head.len() as i64;
            Some(*end)
        }));
        let indices = Tensor::from_slice(&kept.concat());
        layer.select(&Selection::ragged(RaggedIndices { indices, indptr })).unwrap()
    });
    KvCache::from_layers(layers.collect(), full.position())
}
