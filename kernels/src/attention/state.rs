//! The merge state of attention over a part of the keys.

use tch::{Kind, TchError, Tensor};

/// Attention over some of the keys, in a form that merges with attention over others.
///
/// Invariant: with logits `s` over this part's keys, `lse = log Σ exp(s)` and
/// `output = Σ exp(s - lse) v`. Over no keys at all `lse` is minus infinity and `output` zero.
/// Both are float32 whatever the dtype of the cache.
#[derive(Debug)]
pub struct AttentionState {
    /// `[heads, queries, head_dim]`
    pub output: Tensor,
    /// Log of the softmax denominator, `[heads, queries]`
    pub lse: Tensor,
}

impl AttentionState {
    /// The state over the union of two disjoint sets of keys.
    ///
    /// The operation is associative and commutative up to rounding, and a state over no keys is neutral.
    pub fn merge(&self, other: &Self) -> Result<Self, TchError> {
        let lse = self.lse.f_logaddexp(&other.lse)?;
        let weighted = |state: &Self| -> Result<Tensor, TchError> {
            // Both parts empty: exp(-inf - -inf) is NaN where the weight is zero.
            let weight = state.lse.f_sub(&lse)?.f_exp()?.f_nan_to_num(0.0, None, None)?;
            state.output.f_mul(&weight.f_unsqueeze(-1)?)
        };
        let output = weighted(self)?.f_add(&weighted(other)?)?;
        Ok(Self { output, lse })
    }

    /// The state over no keys, for `heads` heads and `queries` queries.
    pub fn empty(heads: i64, queries: i64, head_dim: i64, device: tch::Device) -> Result<Self, TchError> {
        Ok(Self {
            output: Tensor::f_zeros([heads, queries, head_dim], (Kind::Float, device))?,
            lse: Tensor::f_full([heads, queries], f64::NEG_INFINITY, (Kind::Float, device))?,
        })
    }
}
