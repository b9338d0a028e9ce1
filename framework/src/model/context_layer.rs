//! One layer of a context that is being read: its projections, and the views that are made from them.

use tch::Tensor;

use super::attention::attention_weights;
use super::rope::Rotary;
use crate::error::{During, Error, Result};
use crate::press::{Needs, Span};
use crate::view::{Geometry, LayerView, Materialised};
use pressroom_kernels::received::{Seen, Summary, received};

/// Queries, keys and values of all tokens of a context at one layer.
pub struct ContextLayer<'m> {
    pub(super) index: usize,
    pub(super) geometry: Geometry,
    pub(super) rotary: &'m Rotary,
    /// `[hidden, heads * head_dim]`
    pub(super) output_projection: &'m Tensor,
    /// Queries after rotary embedding, slice after slice `[heads, n, head_dim]`, as far as they are needed.
    pub(super) queries: Vec<Tensor>,
    /// After rotary embedding, `[kv_heads, tokens, head_dim]`
    pub(super) keys: Tensor,
    /// `[kv_heads, tokens, head_dim]`
    pub(super) values: Tensor,
    /// Queries before rotary embedding, slice after slice `[n, heads, head_dim]`, as far as they are needed.
    pub(super) unrotated: Vec<Tensor>,
    /// What is projected, `[tokens, hidden]`; `None` where nothing reads it.
    pub(super) hidden_states: Option<Tensor>,
}

impl<'m> ContextLayer<'m> {
    /// The layer as presses that read `needs` see it, with all of that and nothing else.
    ///
    /// # Errors
    /// More is needed than was kept of the projections.
    pub fn view(&self, needs: Needs) -> Result<LayerView<'m>> {
        let tokens = self.keys.size3()?.1;
        let mut parts = Materialised::default();
        if needs.output_projection {
            parts.output_projection = Some(self.output_projection.shallow_clone());
        }
        if needs.hidden_states {
            let kept = || Error::input("hidden states of this layer were not kept");
            parts.hidden_states = Some(self.hidden_states.as_ref().ok_or_else(kept)?.f_unsqueeze(0)?);
        }
        if needs.queries != Span::None {
            let by_head = self.unrotated.iter().map(|slice| slice.f_transpose(0, 1));
            let by_head = by_head.collect::<Result<Vec<_>, _>>()?;
            let last = joined(&by_head, 1, needs.queries.of(tokens))?;
            parts.queries = Some(last.f_contiguous()?.f_unsqueeze(0)?);
        }
        if needs.attention != Span::None {
            let last = joined(&self.queries, 1, needs.attention.of(tokens))?;
            let weights = attention_weights(&last, &self.keys)?;
            parts.attention = Some(weights.f_unsqueeze(0)?);
        }
        if needs.attention_sums {
            let queries = joined(&self.queries, 1, tokens)?.f_unsqueeze(0)?;
            let keys = self.keys.f_unsqueeze(0)?;
            let sums = received(&queries, &keys, Seen { first: 0, positions: None }, Summary::Sum);
            parts.attention_sums = Some(sums.during("attention sums", &[&queries, &keys])?);
        }
        let (keys, values) = (self.keys.f_unsqueeze(0)?, self.values.f_unsqueeze(0)?);
        LayerView::new(self.index, self.geometry, keys, values, parts, self.rotary)
    }
}

/// The rows of a slice, which lie along `dim`, that are among the last `due` of `tokens`; `start` is the slice's first.
pub(super) fn late(rows: &Tensor, dim: i64, start: i64, due: i64, tokens: i64) -> Result<Option<Tensor>> {
    let length = rows.size().get(dim as usize).copied().unwrap_or(0);
    let count = (start + length - (tokens - due)).min(length);
    Ok(if count > 0 { Some(rows.f_narrow(dim, length - count, count)?) } else { None })
}

/// The last `count` rows of slices that follow one another along `dim`.
fn joined(slices: &[Tensor], dim: i64, count: i64) -> Result<Tensor> {
    let (mut last, mut due) = (Vec::new(), count);
    for slice in slices.iter().rev() {
        let rows = slice.size()[dim as usize];
        let own = rows.min(due);
        if own > 0 {
            last.insert(0, slice.f_narrow(dim, rows - own, own)?);
        }
        due -= own;
    }
    match &last[..] {
        _ if due > 0 => Err(Error::input(format!("{due} of {count} tokens of this layer were not kept"))),
        [one] => Ok(one.shallow_clone()),
        several => Ok(Tensor::f_cat(several, dim)?),
    }
}
