//! Views of a part of a view: what a stage left, a slice of the context, one KV head.

use tch::Tensor;

use super::parts::restrict_columns;
use super::{Geometry, LayerView};
use crate::cache::LayerCache;
use crate::error::{Error, Result};
use crate::press::{Edits, Kept, Selection};
use crate::view::scores::Scores;

impl<'a> LayerView<'a> {
    /// The view that is left after a selection of the same number of entries per head: what the next
    /// stage of a chain sees. Values are those merged, key channels removed are zero.
    ///
    /// # Errors
    /// The selection is ragged, or moves keys to other positions.
    pub fn restrict(&self, selection: &Selection) -> Result<Self> {
        let kept = selection.kept();
        let Edits { channels, positions: moved, .. } = selection.edits();
        if matches!(kept, Kept::Ragged(_)) || moved.is_some() {
            return Err(Error::input("what is left of a view has as many entries in every head, where they were"));
        }
        let mut keys = kept.pick(&self.keys)?;
        if let Some(channels) = channels {
            let mask = keys.f_select(2, 0)?.f_zeros_like()?.f_scatter_value(2, channels, 1)?;
            keys = keys.f_mul(&mask.f_unsqueeze(2)?)?;
        }
        let values = selection.kept_values(&self.values)?;
        let (positions, parts) = match kept {
            Kept::Uniform(indices) => {
                let (batch, heads, _) = indices.size3()?;
                let all = self.positions()?.f_expand([batch, heads, self.tokens()], false)?;
                let group = self.geometry.group();
                (Some(kept.pick(&all)?), self.parts.with_columns(|data| restrict_columns(data, indices, group))?)
            }
            _ => {
                let positions = self.positions.as_ref().map(Tensor::shallow_clone);
                (positions, self.parts.with_columns(|data| Ok(data.shallow_clone()))?)
            }
        };
        Ok(self.with(self.geometry, keys, values, positions, parts))
    }

    /// The caches, one for each sequence, that hold what a selection leaves of the view.
    ///
    /// # Errors
    /// The selection does not fit the view.
    pub fn compress(&self, selection: &Selection) -> Result<Vec<LayerCache>> {
        let Some(moved) = &selection.edits().positions else {
            return LayerCache::compress(&self.keys, &self.values, selection);
        };
        let kept = selection.kept();
        let (batch, heads) = (self.batch(), self.geometry.kv_heads);
        let positions = self.positions()?.f_expand([batch, heads, self.tokens()], false)?;
        let delta = moved.f_sub(&kept.pick(&positions)?)?;
        let keys = self.rotary.shift(&kept.pick(&self.keys)?, &delta, self.context.end)?;
        LayerCache::from_kept(&keys, &selection.kept_values(&self.values)?, selection, heads)
    }

    /// Entries `start..start + length` as a context of their own: their first tokens are its sink tokens, their
    /// last ones its observation window.
    ///
    /// # Errors
    /// There are not as many entries.
    pub fn slice(&self, start: i64, length: i64) -> Result<Self> {
        let own = |data: &Tensor, dim: i64| data.f_narrow(dim, start, length);
        let (first, end) = match &self.positions {
            None => (self.context.start + start, self.context.start + start + length),
            Some(positions) => {
                let own = own(positions, 2)?;
                (own.f_min()?.f_int64_value(&[])?, own.f_max()?.f_int64_value(&[])? + 1)
            }
        };
        let positions = self.positions.as_ref().map(|positions| own(positions, 2)).transpose()?;
        let (from, to) = (first - self.context.start, end - self.context.start);
        let rows = self.parts.of_tokens(from, to, self.context_tokens())?;
        let parts = rows.with_columns(|columns| Ok(own(columns, columns.dim() as i64 - 1)?))?;
        let view = self.with(self.geometry, own(&self.keys, 2)?, own(&self.values, 2)?, positions, parts);
        let question_tokens = (self.question_tokens - (self.context.end - end)).max(0);
        let scores = self.scores.of_slice(start, length);
        Ok(Self { context: first..end, question_tokens, scores, ..view })
    }

    /// One KV head and its query group.
    ///
    /// # Errors
    /// There is no such head.
    pub fn head(&self, head: i64) -> Result<Self> {
        let group = self.geometry.group();
        let own = |data: &Tensor| data.f_narrow(1, head, 1);
        let geometry = Geometry { heads: group, kv_heads: 1, ..self.geometry };
        let parts = self.parts.of_heads(head * group, group, self.geometry.head_dim)?;
        let positions = match &self.positions {
            Some(positions) if positions.size()[1] > 1 => Some(own(positions)?),
            other => other.as_ref().map(Tensor::shallow_clone),
        };
        let view = self.with(geometry, own(&self.keys)?, own(&self.values)?, positions, parts);
        Ok(Self { first_kv_head: self.first_kv_head + head, ..view })
    }

    fn with(
        &self,
        geometry: Geometry,
        keys: Tensor,
        values: Tensor,
        positions: Option<Tensor>,
        parts: super::Materialised,
    ) -> Self {
        let context = self.context.clone();
        Self { geometry, keys, values, positions, parts, context, scores: Scores::default(), ..*self }
    }
}
