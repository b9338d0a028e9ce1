//! Attention that keys receive: the columns of the attention matrix, summed over the queries (Zhang et al., 2023,
//! arXiv:2306.14048; Li et al., 2024, arXiv:2404.14469), or their largest weight (Kim et al., 2025, arXiv:2505.23416).

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

/// What a key is told of the weights that the queries give to it.
#[derive(Clone, Copy, Debug)]
pub enum Summary<'a> {
    /// Their sum.
    Sum,
    /// The largest, after each query's weights are multiplied by its factor, if there are any: float32 `[n]`, none
    /// negative. A key that no query sees is told zero.
    Most(Option<&'a Tensor>),
}

/// Attention weights that every key receives from the queries, summed up: float32 `[batch, heads, tokens]`.
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
pub fn received(queries: &Tensor, keys: &Tensor, seen: Seen<'_>, summary: Summary<'_>) -> Result<Tensor, TchError> {
    let (batch, heads, count, head_dim) = queries.size4()?;
    let (own, kv_heads, _, key_dim) = keys.size4()?;
    if own != batch || key_dim != head_dim || kv_heads == 0 || heads % kv_heads != 0 {
        return Err(TchError::Shape(format!("queries {:?}, keys {:?}", queries.size(), keys.size())));
    }
    let factors = match summary {
        Summary::Most(factors) => factors,
        Summary::Sum => None,
    };
    if factors.is_some_and(|factors| factors.size() != [count]) {
        return Err(TchError::Shape(format!("factors of {count} queries: {factors:?}")));
    }
    let told = match (Choice::of([Some(queries), Some(keys), seen.positions, factors])?, summary) {
        (Choice::Gpu(index), Summary::Sum) => gpu::run(cuda::gpu(index)?, queries, keys, seen)?,
        (Choice::Kernels(level), _) if seen.positions.is_none() && seen.first >= 0 => {
            tiled::run(level, queries, keys, seen.first, summary)?
        }
        _ => None,
    };
    match told {
        Some(told) => Ok(told),
        None => reference(queries, keys, seen, summary),
    }
}

/// With torch operations: some queries at a time, and of the keys only those that they see.
fn reference(queries: &Tensor, keys: &Tensor, seen: Seen<'_>, summary: Summary<'_>) -> Result<Tensor, TchError> {
    let (batch, heads, count, head_dim) = queries.size4()?;
    let keys = keys.f_to_kind(Kind::Float)?;
    let (_, kv_heads, tokens, _) = keys.size4()?;
    let group = heads / kv_heads;
    let long = (Kind::Int64, keys.device());
    let told = Tensor::f_zeros([batch, heads, tokens], (Kind::Float, keys.device()))?;
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
        let weights = logits.f_softmax(-1, Kind::Float)?;
        let mut told = told.f_narrow(2, 0, visible)?;
        match summary {
            Summary::Sum => {
                let sums = weights.f_sum_dim_intlist([3i64].as_slice(), false, Kind::Float)?;
                let _ = told.f_add_(&sums.f_view([batch, heads, visible])?)?;
            }
            Summary::Most(factors) => {
                let weights = match factors {
                    Some(factors) => weights.f_mul(&factors.f_narrow(0, start, block)?.f_unsqueeze(-1)?)?,
                    None => weights,
                };
                let most = weights.f_amax([3i64].as_slice(), false)?.f_view([batch, heads, visible])?;
                told.f_copy_(&told.f_maximum(&most)?)?;
            }
        }
    }
    Ok(told)
}
