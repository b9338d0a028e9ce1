//! What a prefill needs of memory, before it runs.

use tch::Kind;

use super::LlamaConfig;
use super::decoder::SLICE;

/// Bytes that are in use at the peak of a prefill with its caches, which is in a layer's last slice of tokens.
/// Left out is what presses ask for beyond keys and values, and what libtorch keeps for its own use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeakMemory {
    /// The weights.
    pub weights: u128,
    /// Hidden states of all tokens, and the tables of their positions.
    pub hidden_states: u128,
    /// Keys and values of one layer, and what is made of the tokens of a slice.
    pub layer: u128,
    /// What the caches of all layers keep.
    pub caches: u128,
}

impl PeakMemory {
    /// Of a context of `tokens` tokens, `kept` of whose KV pairs stay: 1 for one uncompressed cache; caches of several
    /// presses and ratios add up.
    pub fn of_prefill(config: &LlamaConfig, kind: Kind, tokens: u64, kept: f64) -> Self {
        let cost = PrefillCost::of(config, kind);
        let tokens = u128::from(tokens);
        Self {
            weights: config.parameters() * kind.elt_size_in_bytes() as u128,
            hidden_states: tokens * u128::from(cost.hidden_states),
            layer: cost.layer(tokens),
            caches: (u128::from(cost.cache) as f64 * tokens as f64 * kept) as u128,
        }
    }

    /// All of it.
    pub fn total(&self) -> u128 {
        self.weights + self.hidden_states + self.layer + self.caches
    }
}

/// Bytes that a prefill holds of each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefillCost {
    /// Its hidden states and the tables of its position.
    hidden_states: u64,
    /// Its keys and values at one layer.
    pairs: u64,
    /// What is made of it while its slice is at work.
    slice: u64,
    /// Its keys and values at all layers.
    pub cache: u64,
}

impl PrefillCost {
    /// Of a model of this shape in this number format.
    pub fn of(config: &LlamaConfig, kind: Kind) -> Self {
        let bytes = |elements: i64| elements.unsigned_abs().saturating_mul(kind.elt_size_in_bytes() as u64);
        let (hidden, head_dim) = (config.hidden_size, config.head_dim);
        let (queries, pairs) = (config.num_attention_heads * head_dim, 2 * config.num_key_value_heads * head_dim);
        // Normalised, projected and rotated; then, beside attention: the residual stream, what the MLP takes, its two
        // products and theirs, and the next residual stream.
        let attention = hidden + 2 * queries + pairs;
        let mlp = queries + 2 * hidden + 3 * config.intermediate_size;
        Self {
            hidden_states: bytes(hidden + 2 * head_dim),
            pairs: bytes(pairs),
            slice: bytes(attention.max(mlp)),
            cache: bytes(pairs * config.num_hidden_layers as i64),
        }
    }

    /// All but the weights of a prefill of `tokens` tokens, of which nothing is kept.
    pub fn of_tokens(&self, tokens: u64) -> u64 {
        tokens
            .saturating_mul(self.hidden_states)
            .saturating_add(u64::try_from(self.layer(tokens.into())).unwrap_or(u64::MAX))
    }

    fn layer(&self, tokens: u128) -> u128 {
        tokens * u128::from(self.pairs) + tokens.min(SLICE as u128) * u128::from(self.slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a card of 80 GB: all that is taken, and that it is little beside what the caches keep.
    #[test]
    fn half_a_million_tokens_of_llama_8b_fit_a_card_at_three_ratios() {
        let config = LlamaConfig::parse(
            r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
                "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
                "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256, "hidden_act": "silu",
                "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 1048576,
                "tie_word_embeddings": false}"#,
        )
        .unwrap();
        let tokens = 512 << 10;
        let peak = |kept| PeakMemory::of_prefill(&config, Kind::BFloat16, tokens, kept);
        // What the ratios 0.75, 0.9 and 0.95 keep together.
        let three = peak(0.25 + 0.1 + 0.05);
        assert_eq!(three.weights, 2 * 8_030_261_248);
        assert_eq!(three.hidden_states, u128::from(tokens) * (4096 + 2 * 128) * 2);
        assert_eq!(three.layer, (u128::from(tokens) * 2 * 8 * 128 + 2048 * (3 * 4096 + 3 * 14336)) * 2);
        assert_eq!(three.caches / 1_000_000, 27_487);
        assert!(three.total() < 52_000_000_000);
        // What one uncompressed cache takes does not fit beside the weights.
        assert!(peak(1.0).total() > 90_000_000_000);
    }
}
