//! Attention of new tokens over cached keys and values, and of a whole context over itself.
//!
//! A cache keeps what was compressed and what was appended since in different places. [`attend_parts`] runs over the
//! parts of any number of sequences where they lie. A part that only its layout can read comes as an
//! [`AttentionState`]; states merge into exactly the attention over the union.

mod chunk;
mod context;
mod flash;
mod geometry;
mod gpu;
mod packed;
mod partial;
mod parts;
mod reference;
mod state;
mod stream;
#[cfg(test)]
mod tests;

pub use context::attend_context;
#[cfg(test)]
pub(crate) use gpu::{attend as attend_on_gpu, programs};
pub use parts::{Extent, Part, Sequence, attend_parts};
#[cfg(test)]
pub(crate) use parts::{by_states, on};
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
