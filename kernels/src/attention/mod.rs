//! Attention of a block of new tokens over cached keys and values, as a mergeable state.
//!
//! A cache keeps what was compressed and what was appended since in different places. Attention over
//! each part yields an [`AttentionState`]; [`AttentionState::merge`] combines the states into exactly
//! the attention over the union, so the parts are never copied together.

mod reference;
mod state;

pub use reference::{attend, attend_ragged};
pub use state::AttentionState;

/// Which of the keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Every query sees every key.
    None,
    /// The queries belong to the last keys: query `i` of `n` sees all but the last `n - 1 - i` keys.
    Causal,
}

/// The default scale of the logits, `1 / sqrt(head_dim)`.
pub fn default_scale(head_dim: i64) -> f64 {
    1.0 / (head_dim as f64).sqrt()
}
