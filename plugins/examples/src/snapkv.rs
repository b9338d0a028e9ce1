//! `plugin_snapkv`: the built-in `snapkv` as a plugin, to show that nothing is lost on the way.

use pressroom_plugin::ndarray::{Array1, s};
use pressroom_plugin::{Needs, Result, Scorer, Scores, Span, View, axis};

use crate::window;

/// Keeps what the last tokens attend to, and those tokens.
///
/// # Idea
/// The attention of an observation window at the end of the context predicts which earlier tokens an answer will need.
/// Scores are smoothed over neighbouring tokens and averaged over the query group of each KV head. The window itself is
/// always kept.
///
/// # Formula
/// `score = mean over the query group of avg_pool(mean over window queries q of softmax(q K / sqrt(d)))`
///
/// # Paper
/// Li et al., "SnapKV: LLM Knows What You are Looking for Before Generation", 2024, <https://arxiv.org/abs/2404.14469>
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct SnapKv {
    /// Tokens at the end of the context whose queries vote.
    #[schemars(range(min = 1, max = 1_000_000_000), extend("unit" = "tokens"))]
    window_size: usize,
    /// Width of the average pooling over tokens; odd.
    #[schemars(range(min = 1, max = 1_000_000), extend("unit" = "tokens"))]
    kernel_size: usize,
}

impl Default for SnapKv {
    fn default() -> Self {
        Self { window_size: 64, kernel_size: 5 }
    }
}

impl Scorer for SnapKv {
    const NAME: &'static str = "plugin_snapkv";

    fn needs(&self) -> Needs {
        Needs { values: false, rotated_queries: Span::Last(self.window_size), ..Needs::default() }
    }

    fn score(&self, view: &View<'_>, scores: &mut Scores<'_>) -> Result {
        window::long_enough(view, self.window_size)?;
        for (sequence, kv_head) in window::heads(view) {
            let keys = view.keys().head(sequence, kv_head);
            let inside = window::inside(view, sequence, kv_head, self.window_size);
            let mut pooled = Array1::<f32>::zeros(view.tokens());
            for head in kv_head * view.group()..(kv_head + 1) * view.group() {
                let weights = window::attention(view, keys.view(), sequence, head, self.window_size)?;
                let mut votes = weights.sum_axis(axis::BATCH) / weights.nrows() as f32;
                // Only what lies before the window is pooled: its neighbours in the window do not vote for it.
                votes.iter_mut().zip(&inside).filter(|(_, inside)| **inside).for_each(|(vote, _)| *vote = 0.0);
                pooled += &self.pool(&votes);
            }
            let mut row = scores.slice_mut(s![sequence, kv_head, ..]);
            row.assign(&(pooled / view.group() as f32));
            row.iter_mut().zip(&inside).filter(|(_, inside)| **inside).for_each(|(score, _)| *score = f32::INFINITY);
        }
        Ok(())
    }
}

impl SnapKv {
    /// Mean over `kernel_size` neighbours; beyond the ends there are zeros.
    fn pool(&self, votes: &Array1<f32>) -> Array1<f32> {
        Array1::from_shape_fn(votes.len(), |token| {
            let first = token.saturating_sub(self.kernel_size / 2);
            let end = (token + self.kernel_size - self.kernel_size / 2).min(votes.len());
            votes.slice(s![first..end]).sum() / self.kernel_size as f32
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pressroom_plugin::testing::Layer;

    #[test]
    fn the_window_is_kept_and_what_it_attends_to_scores_high() {
        let mut layer = Layer::random(40, 7);
        let needle = layer.queries.slice(s![0, 0, 39, ..]).to_owned();
        layer.keys.slice_mut(s![0, 0, 11, ..]).assign(&(needle * 5.0));
        let scores = layer.score(&SnapKv { window_size: 4, kernel_size: 1 }).unwrap();
        let before = scores.slice(s![0, 0, ..36]);
        assert!(scores.slice(s![0, .., 36..]).iter().all(|score| *score == f32::INFINITY));
        assert!(before.iter().all(|score| *score <= scores[[0, 0, 11]]), "{before}");
    }

    #[test]
    fn a_context_no_longer_than_the_window_is_refused() {
        let error = Layer::random(4, 1).score(&SnapKv { window_size: 4, kernel_size: 3 }).unwrap_err();
        assert!(error.to_string().contains("the context has 4 tokens"), "{error}");
    }
}
