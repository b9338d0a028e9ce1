//! Attention states with torch operations: the reference that every other implementation is held to.

use tch::{Kind, TchError, Tensor};

use super::{AttentionState, Extent, Mask};

/// Attention of `query` over the same number of keys in every KV head.
///
/// * `query`: `[heads, queries, head_dim]`, after rotary embedding; `heads` is a multiple of `kv_heads`,
///   and consecutive query heads share a KV head (grouped-query attention). Keys are not repeated.
/// * `keys`, `values`: `[kv_heads, tokens, head_dim]`; the keys may have fewer channels than the values, the query
///   as many as the keys
/// * `scale`: factor of the logits
///
/// The softmax runs in float32. Logits and outputs of a half-precision cache are rounded to its dtype once.
pub fn attend(
    query: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    mask: Mask,
    scale: f64,
) -> Result<AttentionState, TchError> {
    let (heads, queries, head_dim) = query.size3()?;
    let (kv_heads, tokens, value_dim) = values.size3()?;
    if tokens == 0 || queries == 0 {
        return AttentionState::empty(heads, queries, value_dim, query.device());
    }
    let group = heads / kv_heads;
    let grouped = query.f_reshape([kv_heads, group * queries, head_dim])?;
    let mut logits = grouped.f_bmm(&keys.f_transpose(1, 2)?)?.f_to_kind(Kind::Float)?.f_mul_scalar(scale)?;
    if mask == Mask::Causal && queries > 1 {
        let hidden = Tensor::f_ones([queries, tokens], (Kind::Bool, query.device()))?.f_triu(tokens - queries + 1)?;
        logits = logits
            .f_view([kv_heads, group, queries, tokens])?
            .f_masked_fill(&hidden, f64::NEG_INFINITY)?
            .f_view([kv_heads, group * queries, tokens])?;
    }
    let lse = logits.f_logsumexp([-1], true)?;
    let weights = logits.f_sub(&lse)?.f_exp()?.f_to_kind(values.kind())?;
    let output = weights.f_bmm(values)?.f_to_kind(Kind::Float)?;
    Ok(AttentionState { output: output.f_view([heads, queries, value_dim])?, lse: lse.f_view([heads, queries])? })
}

/// Attention of `query` over a number of keys that differs by KV head. No mask: every key is visible.
///
/// * `query`: `[heads, queries, head_dim]`
/// * `keys`, `values`: `[Σ lengths, head_dim]`, head after head
/// * `indptr`: `kv_heads + 1` offsets; KV head `h` owns rows `indptr[h]..indptr[h + 1]`
pub fn attend_ragged(
    query: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    indptr: &[i64],
    scale: f64,
) -> Result<AttentionState, TchError> {
    let kv_heads = indptr.len() as i64 - 1;
    let group = query.size3()?.0 / kv_heads;
    let mut outputs = Vec::with_capacity(indptr.len() - 1);
    let mut lses = Vec::with_capacity(indptr.len() - 1);
    for (head, bounds) in indptr.windows(2).enumerate() {
        let length = bounds[1] - bounds[0];
        let rows = |data: &Tensor| data.f_narrow(0, bounds[0], length)?.f_unsqueeze(0);
        let state =
            attend(&query.f_narrow(0, head as i64 * group, group)?, &rows(keys)?, &rows(values)?, Mask::None, scale)?;
        outputs.push(state.output);
        lses.push(state.lse);
    }
    Ok(AttentionState { output: Tensor::f_cat(&outputs, 0)?, lse: Tensor::f_cat(&lses, 0)? })
}

/// Attention of `query` over a part of plain rows.
///
/// * `query`: `[heads, queries, head_dim]`
pub(super) fn attend_rows(
    query: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    extent: Extent<'_>,
    mask: Mask,
    scale: f64,
) -> Result<AttentionState, TchError> {
    match extent {
        Extent::Uniform { length, .. } => {
            attend(query, &keys.f_narrow(1, 0, length)?, &values.f_narrow(1, 0, length)?, mask, scale)
        }
        Extent::Ragged(indptr) => attend_ragged(query, keys, values, indptr, scale),
    }
}

/// Attention of `query` over keys of which only some channels are stored: the query is reduced to the same ones.
///
/// * `query`: `[heads, queries, head_dim]`
/// * `channels`: `[kv_heads, channels]`
pub(super) fn attend_pruned(
    query: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    extent: Extent<'_>,
    channels: &Tensor,
    scale: f64,
) -> Result<AttentionState, TchError> {
    let (heads, queries, _) = query.size3()?;
    let (kv_heads, kept) = channels.size2()?;
    let channels = channels.f_repeat_interleave_self_int(heads / kv_heads, 0, None)?;
    let channels = channels.f_unsqueeze(1)?.f_expand([heads, queries, kept], false)?;
    attend_rows(&query.f_gather(2, &channels, false)?, keys, values, extent, Mask::None, scale)
}
