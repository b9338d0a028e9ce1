//! Random tensors and the tiny grouped-query model.

use std::path::Path;

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

/// The tiny model with 4 query heads and 2 KV heads.
pub fn tiny() -> Llama {
    tiny_in(Kind::Float)
}

/// The same in another dtype.
pub fn tiny_in(kind: Kind) -> Llama {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny/gqa");
    let options = LoadOptions { device: Device::Cpu, kind, progress: ProgressBar::hidden() };
    Llama::load(&ModelFolder::read(&folder).unwrap(), &options).unwrap()
}

/// Geometry of [`view`]: 4 heads, 2 KV heads of 8 channels.
pub const GEOMETRY: Geometry = Geometry { layers: 1, heads: 4, kv_heads: 2, head_dim: 8 };

/// A rotary embedding for [`GEOMETRY`].
pub fn rotary() -> Rotary {
    let config = r#"{"model_type": "llama", "vocab_size": 8, "hidden_size": 32, "intermediate_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}"#;
    Rotary::new(&LlamaConfig::parse(config).unwrap(), Device::Cpu).unwrap()
}

/// A view with everything materialised, of given keys, values and queries; its last three tokens are a question.
pub fn view_of<'a>(keys: Tensor, values: Tensor, queries: Tensor, rotary: &'a Rotary) -> LayerView<'a> {
    let output_projection = Some(self::values(7, &[32, 32]).to_kind(values.kind()));
    let parts = Materialised { queries: Some(queries), output_projection, ..Materialised::default() };
    LayerView::new(0, GEOMETRY, keys, values, parts, rotary).unwrap().with_question(3)
}

/// A view of random tensors of some magnitude.
pub fn view<'a>(seed: u64, batch: i64, tokens: i64, scale: f64, kind: Kind, rotary: &'a Rotary) -> LayerView<'a> {
    let draw = |part: u64, heads: i64| (values(seed * 3 + part, &[batch, heads, tokens, 8]) * scale).to_kind(kind);
    view_of(draw(0, 2), draw(1, 2), draw(2, 4), rotary)
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
