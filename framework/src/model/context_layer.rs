//! One layer of a context that is being read: its projections, and the views that are made from them.

use tch::Tensor;

use super::attention::attention_weights;
use super::rope::Rotary;
use crate::error::{During, Error, Result};
use crate::press::{Needs, Span};
use crate::view::{Geometry, LayerView, Materialised};
use pressroom_kernels::received::{Seen, received};

/// Queries, keys and values of all tokens of a context at one layer.
pub struct ContextLayer<'m> {
    pub(super) index: usize,
    pub(super) geometry: Geometry,
    pub(super) rotary: &'m Rotary,
    /// `[hidden, heads * head_dim]`
    pub(super) output_projection: &'m Tensor,
    /// After rotary embedding, `[heads, tokens, head_dim]`; `None` where nothing reads them.
    pub(super) queries: Option<Tensor>,
    /// After rotary embedding, `[kv_heads, tokens, head_dim]`
    pub(super) keys: Tensor,
    /// `[kv_heads, tokens, head_dim]`
    pub(super) values: Tensor,
    /// Queries before rotary embedding, slice after slice `[n, heads, head_dim]`, as far as they are needed.
    pub(super) unrotated: Vec<Tensor>,
    /// What was projected, slice after slice `[n, hidden]`, as far as it is needed.
    pub(super) hidden_states: Vec<Tensor>,
}

impl<'m> ContextLayer<'m> {
    /// The layer as presses that read `needs` see it, with all of that and nothing else.
    ///
    /// # Errors
    /// More is needed than was kept of the projections.
    pub fn view(&self, needs: Needs) -> Result<LayerView<'m>> {
        let tokens = self.keys.size3()?.1;
        let queries = || self.queries.as_ref().ok_or_else(|| Error::input("queries of this layer were not kept"));
        let mut parts = Materialised::default();
        if needs.output_projection {
            parts.output_projection = Some(self.output_projection.shallow_clone());
        }
        if needs.hidden_states {
            parts.hidden_states = Some(joined(&self.hidden_states, tokens)?.f_unsqueeze(0)?);
        }
        if needs.queries != Span::None {
            let last = joined(&self.unrotated, needs.queries.of(tokens))?;
            parts.queries = Some(last.f_transpose(0, 1)?.f_contiguous()?.f_unsqueeze(0)?);
        }
        if needs.attention != Span::None {
            let weights = attention_weights(queries()?, &self.keys, needs.attention.of(tokens))?;
            parts.attention = Some(weights.f_unsqueeze(0)?);
        }
        if needs.attention_sums {
            let (queries, keys) = (queries()?.f_unsqueeze(0)?, self.keys.f_unsqueeze(0)?);
            let sums = received(&queries, &keys, Seen { first: 0, positions: None });
            parts.attention_sums = Some(sums.during("attention sums", &[&queries, &keys])?);
        }
        let (keys, values) = (self.keys.f_unsqueeze(0)?, self.values.f_unsqueeze(0)?);
        LayerView::new(self.index, self.geometry, keys, values, parts, self.rotary)
    }
}

/// The last `count` rows of slices that follow one another.
fn joined(slices: &[Tensor], count: i64) -> Result<Tensor> {
    let (mut last, mut due) = (Vec::new(), count);
    for slice in slices.iter().rev() {
        let rows = slice.size()[0];
        let own = rows.min(due);
        if own > 0 {
            last.insert(0, slice.f_narrow(0, rows - own, own)?);
        }
        due -= own;
    }
    match &last[..] {
        [one] => Ok(one.shallow_clone()),
        several => Ok(Tensor::f_cat(several, 0)?),
    }
}
