//! `think`: channels of the keys that queries do not use.

use pressroom::error::During;
use pressroom::press::{Budget, Edits, Needs, Press, Range, Selection, Span};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

pressroom::press! {
    /// Removes the channels of the keys that matter least to the last queries.
    ///
    /// # Idea
    /// Keys are redundant along their channels too. A channel matters if queries and keys are large in it; the
    /// others are taken out of storage, and out of the queries when they meet the compressed keys. All KV pairs are
    /// kept, so it goes well after a press that evicts some.
    ///
    /// # Formula
    /// `importance of a channel = mean over the query group and the window of q^2 * mean over tokens of k^2`; removed
    /// are the `floor(key_channel_compression_ratio * head_dim)` least important of each KV head
    ///
    /// # Paper
    /// Xu et al., "ThinK: Thinner Key Cache by Query-Driven Pruning", 2024, <https://arxiv.org/abs/2407.21018>
    "think" Press Think budget(Own) {
        /// Fraction of the key channels that is removed; values keep theirs, so half of it leaves the cache. One
        /// channel is always kept.
        key_channel_compression_ratio: f64 = 0.0, Range::closed(0.0, 1.0);
        /// Tokens at the end of the context whose queries tell what matters.
        window_size: usize = 32, Range::closed(1.0, 1e9);
    }
}

impl Press for Think {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs { queries: Span::Last(self.window_size), ..Needs::KEYS_AND_VALUES }
    }

    fn select(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Selection> {
        let head_dim = view.geometry().head_dim;
        let removed = ((head_dim as f64 * self.key_channel_compression_ratio) as i64).min(head_dim - 1);
        if removed == 0 {
            return Ok(Selection::all());
        }
        let (_, order) = self.importance(view)?.f_sort_stable(true, -1, true)?;
        let (channels, _) = order.f_narrow(2, 0, head_dim - removed)?.f_sort(-1, false)?;
        Ok(Selection::all().with_edits(Edits { channels: Some(channels), ..Edits::default() }))
    }
}

impl Think {
    /// Importance of each channel, float32 `[batch, kv_heads, head_dim]`.
    fn importance(&self, view: &LayerView<'_>) -> Result<Tensor> {
        let geometry = view.geometry();
        let power = |data: &Tensor, dims: &[i64]| data.f_square()?.f_mean_dim(dims, false, Kind::Float);
        let queries = view.rotated_queries(Span::Last(self.window_size))?;
        let grouped = queries.f_unflatten(1, [geometry.kv_heads, geometry.group()])?;
        let (queries, keys) = (power(&grouped, &[2, 3])?, power(&view.keys().f_to_kind(Kind::Float)?, &[2])?);
        queries.f_mul(&keys).during("importance of key channels", &[&queries, &keys])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pressroom::press::Press;

    #[test]
    fn half_of_the_channels_leave_half_of_the_key_bytes() {
        crate::testing::with_view(64, |view| {
            let full = view.compress(&Selection::all()).unwrap()[0].bytes();
            let press = Think { key_channel_compression_ratio: 0.5, ..Think::default() };
            let selection = press.select(view, Budget::ALL).unwrap();
            let pruned = view.compress(&selection).unwrap();
            // Keys lose half their bytes, values none; the kept channels are noted once, 8 bytes each.
            let notes = 8 * selection.edits().channels.as_ref().unwrap().numel();
            assert_eq!(pruned[0].bytes(), full * 3 / 4 + notes);
        });
    }

    #[test]
    fn a_channel_is_left_at_every_ratio() {
        crate::testing::with_view(9, |view| {
            for (ratio, left) in [(0.05, None), (0.99, Some(1)), (1.0, Some(1))] {
                let press = Think { key_channel_compression_ratio: ratio, ..Think::default() };
                let selection = press.select(view, Budget::ALL).unwrap();
                assert_eq!(selection.edits().channels.as_ref().map(|channels| channels.size()[2]), left, "{ratio}");
            }
        });
    }
}
