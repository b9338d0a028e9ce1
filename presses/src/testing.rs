//! A view of random tensors for the unit tests of presses.

use pressroom::model::{LlamaConfig, Rotary};
use pressroom::random;
use pressroom::view::{Geometry, LayerView, Materialised};
use tch::Device;

/// Shows a view of `tokens` tokens, with everything materialised: 4 query heads, 2 KV heads of 8 channels.
pub(crate) fn with_view(tokens: i64, look: impl FnOnce(&LayerView<'_>)) {
    let config = r#"{"model_type": "llama", "vocab_size": 8, "hidden_size": 32, "intermediate_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}"#;
    let rotary = Rotary::new(&LlamaConfig::parse(config).unwrap(), Device::Cpu).unwrap();
    let draw = |seed: u64, shape: &[i64]| random::uniform(seed, shape, Device::Cpu).unwrap() * 2.0 - 1.0;
    let parts = Materialised {
        queries: Some(draw(3, &[1, 4, tokens, 8])),
        output_projection: Some(draw(4, &[32, 32])),
        ..Materialised::default()
    };
    let geometry = Geometry { layers: 1, heads: 4, kv_heads: 2, head_dim: 8 };
    let (keys, values) = (draw(1, &[1, 2, tokens, 8]), draw(2, &[1, 2, tokens, 8]));
    look(&LayerView::new(0, geometry, keys, values, parts, &rotary).unwrap());
}
