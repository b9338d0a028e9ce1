//! What a prefill needs of memory, before it runs.

use tch::Kind;

use super::LlamaConfig;
use super::decoder::SLICE;

/// Bytes that are in use at the peak of a prefill with its caches, which is in a layer's attention over the context.
/// Left out is what presses ask for beyond keys and values, and what libtorch keeps for its own use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeakMemory {
    /// The weights.
    pub weights: u128,
    /// Hidden states of all tokens, and the tables of their positions.
    pub hidden_states: u128,
    /// Queries, keys, values and attention of one layer; of the last slice of tokens, what the projections make them of.
    pub layer: u128,
    /// What the caches of all layers keep.
    pub caches: u128,
}

impl PeakMemory {
    /// Of a context of `tokens` tokens, `kept` of whose KV pairs stay: 1 for one uncompressed cache; caches of several
    /// presses and ratios add up.
    pub fn of_prefill(config: &LlamaConfig, kind: Kind, tokens: u64, kept: f64) -> Self {
        let element = kind.elt_size_in_bytes() as u128;
        let (tokens, wide) = (u128::from(tokens), |value: i64| value as u128);
        let heads = wide(config.num_attention_heads) * wide(config.head_dim);
        let kv_heads = wide(config.num_key_value_heads) * wide(config.head_dim);
        let slice = tokens.min(wide(SLICE));
        // Attention holds queries and its output; before it, a slice is normalised and projected.
        let layer = tokens * (2 * heads + 2 * kv_heads) + slice * wide(config.hidden_size);
        let full = config.kv_elements_per_token() * tokens * element;
        Self {
            weights: config.parameters() * element,
            hidden_states: tokens * (wide(config.hidden_size) + 2 * wide(config.head_dim)) * element,
            layer: layer * element,
            caches: (full as f64 * kept) as u128,
        }
    }

    /// All of it.
    pub fn total(&self) -> u128 {
        self.weights + self.hidden_states + self.layer + self.caches
    }
}
