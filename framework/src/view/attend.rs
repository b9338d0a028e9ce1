//! Attention over the entries that are left of a view, computed anew: what evicted entries took is shared out.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::LayerView;
use crate::error::{During, Result};
use crate::model::Rotary;
use crate::press::Span;
use pressroom_kernels::received::{Seen, Summary, received};

impl LayerView<'_> {
    /// Attention weights of the last `window` tokens of the context over the entries, float32
    /// `[batch, kv_heads, group, window, tokens]`.
    ///
    /// # Errors
    /// The press did not declare as many queries.
    pub fn window_attention(&self, window: usize) -> Result<Tensor> {
        let count = Span::Last(window).of(self.observed_tokens());
        self.attention_within(self.context.end - count..self.context.end)
    }

    /// Attention that the last `window` tokens of the context together give to each entry, float32
    /// `[batch, kv_heads, group, tokens]`: the sum of [`Self::window_attention`] over the window, which is not held.
    ///
    /// # Errors
    /// The press did not declare as many queries.
    pub fn window_votes(&self, window: usize) -> Result<Tensor> {
        let queries = self.rotated_queries(Span::Last(window))?;
        let first = self.context.end - queries.size4()?.2;
        let seen = match &self.positions {
            Some(positions) => Seen { first, positions: Some(positions) },
            None => Seen { first: first - self.context.start, positions: None },
        };
        let votes = received(&queries, &self.keys, seen, Summary::Sum)
            .during("attention over the entries", &[&queries, &self.keys])?;
        Ok(votes.f_unflatten(1, [self.geometry.kv_heads, self.geometry.group()])?)
    }

    /// Attention weights of the tokens at `positions` over the entries, float32
    /// `[batch, kv_heads, group, n, tokens]`. A query that comes before everything that is left weighs it evenly.
    ///
    /// # Errors
    /// The press did not declare queries back to there.
    pub fn attention_within(&self, positions: Range<i64>) -> Result<Tensor> {
        let (batch, geometry) = (self.batch(), self.geometry);
        let (kv_heads, group, count) = (geometry.kv_heads, geometry.group(), positions.end - positions.start);
        let last = self.queries(Span::Last((self.context.end - positions.start) as usize))?;
        let at = Tensor::f_arange_start(positions.start, positions.end, (Kind::Int64, self.device()))?;
        let (cos, sin) = self.rotary.tables(&at, Kind::Float)?;
        let queries = Rotary::rotate(&last.f_narrow(2, 0, count)?.f_to_kind(Kind::Float)?, &cos, &sin)?;
        let queries = queries
            .f_reshape([batch, kv_heads, group * count, geometry.head_dim])?
            .f_mul_scalar(1.0 / (geometry.head_dim as f64).sqrt())?;
        // In float32: products of half-precision queries and keys can exceed what half precision holds.
        let keys = self.keys.f_to_kind(Kind::Float)?;
        let logits = queries
            .f_matmul(&keys.f_transpose(2, 3)?)
            .during("attention over the entries", &[&queries, &keys])?
            .f_view([batch, kv_heads, group, count, -1])?;
        // While nothing was evicted, only the entries from the first of these queries on can lie in a query's future.
        let past = match self.positions {
            None => (positions.start - self.context.start).clamp(0, self.tokens()),
            Some(_) => 0,
        };
        let recent = |entries: &Tensor| entries.f_narrow(-1, past, self.tokens() - past);
        let future = recent(&self.positions()?)?.f_unsqueeze(-2)?.f_gt_tensor(&at.f_unsqueeze(-1)?)?.f_unsqueeze(2)?;
        let _ = recent(&logits)?.f_masked_fill_(&future, f64::from(f32::MIN))?;
        Ok(logits.f_softmax(-1, Kind::Float)?)
    }
}
