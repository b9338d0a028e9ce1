//! Attention that keys receive: the columns of the attention matrix, summed over the queries (Zhang et al., 2023,
//! arXiv:2306.14048; Li et al., 2024, arXiv:2404.14469).

pub(crate) mod gpu;
#[cfg(test)]
mod tests;
mod tiled;

use tch::{Kind, TchError, Tensor};

use crate::attention::default_scale;
use crate::cuda;
use crate::dispatch::Choice;

/// Queries that the reference takes at a time.
const BLOCK: i64 = 256;

/// Which keys a query sees: those up to its own position. One that comes before them all weighs them evenly.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Position of the first query; the others follow.
    pub first: i64,
    /// Position of each key, int64, broadcastable to `[batch, kv_heads, tokens]`; none: its index.
    pub positions: Option<&'a Tensor>,
}

/// Attention weights that every key receives from all queries together, float32 `[batch, heads, tokens]`.
///
/// * `queries`: `[batch, heads, n, head_dim]`, after rotary embedding. Consecutive query heads share a KV head; keys are
///   not repeated.
/// * `keys`: `[batch, kv_heads, tokens, head_dim]`
///
/// Logits are scaled by [`default_scale`]; all arithmetic is float32, whatever the dtypes: products of half-precision
/// queries and keys can exceed what half precision holds.
///
/// # Errors
/// The shapes do not fit.
pub fn received(queries: &Tensor, keys: &Tensor, seen: Seen<'_>) -> Result<Tensor, TchError> {
    let (batch, heads, _, head_dim) = queries.size4()?;
    let (own, kv_heads, _, key_dim) = keys.size4()?;
    if own != batch || key_dim != head_dim || kv_heads == 0 || heads % kv_heads != 0 {
        return Err(TchError::Shape(format!("queries {:?}, keys {:?}", queries.size(), keys.size())));
    }
    let sums = match Choice::of([Some(queries), Some(keys), seen.positions])? {
        Choice::Gpu(index) => gpu::run(cuda::gpu(index)?, queries, keys, seen)?,
        Choice::Kernels(level) if seen.positions.is_none() && seen.first >= 0 => {
            tiled::run(level, queries, keys, seen.first)?
        }
        _ => None,
    };
    match sums {
        Some(sums) => Ok(sums),
        None => reference(queries, keys, seen),
    }
}

/// With torch operations: some queries at a time, and of the keys only those that they see.
fn reference(queries: &Tensor, keys: &Tensor, seen: Seen<'_>) -> Result<Tensor, TchError> {
    let (batch, heads, count, head_dim) = queries.size4()?;
    let keys = keys.f_to_kind(Kind::Float)?;
    let (_, kv_heads, tokens, _) = keys.size4()?;
    let group = heads / kv_heads;
    let long = (Kind::Int64, keys.device());
    let sums = Tensor::f_zeros([batch, heads, tokens], (Kind::Float, keys.device()))?;
    for start in (0..count).step_by(BLOCK as usize).filter(|_| tokens > 0) {
        let block = BLOCK.min(count - start);
        let (first, last) = (seen.first + start, seen.first + start + block);
        // Without positions, some keys are seen by every query of the block, and those from `visible` on by none.
        let (past, visible) = match seen.positions {
            None if first >= 0 => (first.min(tokens), last.min(tokens)),
            _ => (0, tokens),
        };
        let own = queries.f_narrow(2, start, block)?.f_to_kind(Kind::Float)?;
        let own = own.f_reshape([batch, kv_heads, group * block, head_dim])?.f_mul_scalar(default_scale(head_dim))?;
        let logits = own.f_matmul(&keys.f_narrow(2, 0, visible)?.f_transpose(2, 3)?)?;
        let logits = logits.f_view([batch, kv_heads, group, block, visible])?;
        let positions = match seen.positions {
            Some(positions) => positions.shallow_clone(),
            None => Tensor::f_arange_start(past, visible, long)?.f_view([1, 1, -1])?,
        };
        let at = Tensor::f_arange_start(first, last, long)?.f_unsqueeze(-1)?;
        let future = positions.f_unsqueeze(-2)?.f_gt_tensor(&at)?.f_unsqueeze(2)?;
        let _ = logits.f_narrow(4, past, visible - past)?.f_masked_fill_(&future, f64::from(f32::MIN))?;
        let weights = logits.f_softmax(-1, Kind::Float)?.f_sum_dim_intlist([3i64].as_slice(), false, Kind::Float)?;
        let _ = sums.f_narrow(2, 0, visible)?.f_add_(&weights.f_view([batch, heads, visible])?)?;
    }
    Ok(sums)
}
