//! `rkv`: important, and not said already.

use pressroom_plugin::ndarray::{Array1, Array2, ArrayView2, s};
use pressroom_plugin::{Needs, Result, Scorer, Scores, Span, View};

use crate::window;

/// Keeps what the last tokens attend to, unless a later key says the same.
///
/// # Idea
/// Text that repeats itself, reasoning above all, fills a cache with keys that are nearly the same. Importance is the
/// attention of an observation window, the largest of the query group, smoothed by the largest of its neighbours.
/// Redundancy is the mean cosine similarity to the other keys, leaving out, for each key, the latest few that are
/// closer to it than `threshold`: the last of many repetitions stays. The window itself is always kept.
///
/// # Formula
/// `score = lambda * I - (1 - lambda) * softmax(mean over j of cos(k_i, k_j))`, with `I` the pooled attention
///
/// # Paper
/// Cai et al., "R-KV: Redundancy-aware KV Cache Compression for Reasoning Models", 2025,
/// <https://arxiv.org/abs/2505.24133>
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Rkv {
    /// Tokens at the end of the context whose queries vote.
    #[schemars(range(min = 1, max = 1_000_000_000), extend("unit" = "tokens"))]
    window_size: usize,
    /// Width of the max pooling over tokens; odd.
    #[schemars(range(min = 1, max = 1_000_000), extend("unit" = "tokens"))]
    kernel_size: usize,
    /// Share of the importance in the score; the rest is redundancy's.
    #[schemars(range(min = 0.0, max = 1.0))]
    lambda: f64,
    /// Cosine similarity from which two keys say the same.
    #[schemars(range(min = -1.0, max = 1.0))]
    threshold: f64,
    /// How many of the latest keys that say the same as one are not held against it.
    #[schemars(range(min = 0, max = 1_000_000), extend("unit" = "tokens"))]
    recent: usize,
}

impl Default for Rkv {
    fn default() -> Self {
        Self { window_size: 8, kernel_size: 7, lambda: 0.1, threshold: 0.5, recent: 1 }
    }
}

impl Scorer for Rkv {
    const NAME: &'static str = "rkv";

    fn needs(&self) -> Needs {
        Needs { values: false, rotated_queries: Span::Last(self.window_size), ..Needs::default() }
    }

    fn check(&self) -> Result {
        if self.kernel_size % 2 == 1 {
            Ok(())
        } else {
            Err("kernel_size is odd, so that the pooling has a middle".into())
        }
    }

    fn score(&self, view: &View<'_>, scores: &mut Scores<'_>) -> Result {
        window::long_enough(view, self.window_size)?;
        let lambda = self.lambda as f32;
        for (sequence, kv_head) in window::heads(view) {
            let keys = view.keys().head(sequence, kv_head);
            let importance = self.importance(view, keys.view(), sequence, kv_head)?;
            let redundancy = self.redundancy(keys.view());
            let inside = window::inside(view, sequence, kv_head, self.window_size);
            for (token, score) in scores.slice_mut(s![sequence, kv_head, ..]).iter_mut().enumerate() {
                let mixed = lambda * importance[token] - (1.0 - lambda) * redundancy[token];
                *score = if inside[token] { f32::INFINITY } else { mixed };
            }
        }
        Ok(())
    }
}

impl Rkv {
    /// Attention that each entry gets from the window, `[tokens]`.
    fn importance(
        &self,
        view: &View<'_>,
        keys: ArrayView2<'_, f32>,
        sequence: usize,
        kv_head: usize,
    ) -> Result<Array1<f32>> {
        let mut attention = Array1::<f32>::zeros(view.tokens());
        let mut group = Vec::with_capacity(view.group());
        for head in kv_head * view.group()..(kv_head + 1) * view.group() {
            group.push(window::attention(view, keys, sequence, head, self.window_size)?);
        }
        let queries = group.first().map_or(0, Array2::nrows);
        for query in 0..queries {
            for token in 0..view.tokens() {
                let strongest = group.iter().map(|weights| weights[[query, token]]).fold(0.0, f32::max);
                attention[token] += strongest / queries as f32;
            }
        }
        let reach = self.kernel_size / 2;
        Ok(Array1::from_shape_fn(view.tokens(), |token| {
            let neighbours = s![token.saturating_sub(reach)..(token + reach + 1).min(view.tokens())];
            attention.slice(neighbours).iter().copied().fold(0.0, f32::max)
        }))
    }

    /// How much each key repeats others, `[tokens]`; a distribution.
    fn redundancy(&self, keys: ArrayView2<'_, f32>) -> Array1<f32> {
        let mut directions = keys.to_owned();
        for mut key in directions.rows_mut() {
            let norm = key.dot(&key).sqrt().max(f32::MIN_POSITIVE);
            key.mapv_inplace(|x| x / norm);
        }
        let tokens = directions.nrows();
        let threshold = self.threshold as f32;
        let mut sums = Array1::<f32>::zeros(tokens);
        // Row by row: the whole matrix would be tokens squared.
        for (token, key) in directions.rows().into_iter().enumerate() {
            let mut similar = directions.dot(&key);
            similar[token] = 0.0;
            let later = (0..tokens).rev().filter(|&other| similar[other] > threshold).take(self.recent);
            let forgiven: Vec<usize> = later.collect();
            forgiven.into_iter().for_each(|other| similar[other] = 0.0);
            sums += &similar;
        }
        let mean = sums / tokens as f32;
        let largest = mean.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights = mean.mapv(|mean| (mean - largest).exp());
        let total = weights.sum();
        weights / total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pressroom_plugin::testing::Layer;

    #[test]
    fn of_equal_keys_the_last_scores_best() {
        let mut layer = Layer::random(60, 3);
        let repeated = layer.keys.slice(s![0, 0, 5, ..]).to_owned();
        for token in [20, 35] {
            layer.keys.slice_mut(s![0, 0, token, ..]).assign(&repeated);
        }
        let press = Rkv { lambda: 0.0, threshold: 0.99, ..Rkv::default() };
        let scores = layer.score(&press).unwrap();
        assert!(scores[[0, 0, 35]] > scores[[0, 0, 20]], "{scores}");
        assert!(scores[[0, 0, 35]] > scores[[0, 0, 5]], "{scores}");
    }

    #[test]
    fn the_window_is_always_kept() {
        let scores = Layer::random(30, 1).score(&Rkv::default()).unwrap();
        assert!(scores.slice(s![0, .., 22..]).iter().all(|score| *score == f32::INFINITY));
        assert!(scores.slice(s![0, .., ..22]).iter().all(|score| score.is_finite()));
    }
}
