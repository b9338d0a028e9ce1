//! `plugin_knorm`: the built-in `knorm` as a plugin, to show that nothing is lost on the way.

use pressroom_plugin::ndarray::ArrayView1;
use pressroom_plugin::{Needs, Result, Scorer, Scores, View, axis};

/// Keeps the keys with the smallest L2 norm.
///
/// # Idea
/// Keys of small norm tend to receive high attention, so the norm alone ranks KV pairs.
///
/// # Formula
/// `score = -||k||`
///
/// # Paper
/// Devoto et al., "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression", 2024,
/// <https://arxiv.org/abs/2406.11430>
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
pub struct Knorm {}

impl Scorer for Knorm {
    const NAME: &'static str = "plugin_knorm";

    fn needs(&self) -> Needs {
        Needs { values: false, ..Needs::default() }
    }

    fn score(&self, view: &View<'_>, scores: &mut Scores<'_>) -> Result {
        let keys = view.keys().f32();
        scores.assign(&keys.map_axis(axis::CHANNEL, |key| -norm(key)));
        Ok(())
    }
}

/// `||key||` to the last bit as libtorch sums it: every eighth channel by itself, then the eight sums. Where a token is
/// repeated, its keys at the first layer differ by their rotation alone, and rounding decides which of them are kept.
fn norm(key: ArrayView1<'_, f32>) -> f32 {
    let mut sums = [0.0; 8];
    for (channel, x) in key.iter().enumerate() {
        sums[channel % 8] += x * x;
    }
    sums.iter().sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pressroom_plugin::testing::Layer;

    #[test]
    fn a_larger_key_scores_less() {
        let mut layer = Layer::random(10, 1);
        layer.keys.slice_mut(pressroom_plugin::ndarray::s![0, 1, 3, ..]).mapv_inplace(|x| 100.0 * x);
        let scores = layer.score(&Knorm {}).unwrap();
        let lowest = (0..10).min_by(|a, b| scores[[0, 1, *a]].total_cmp(&scores[[0, 1, *b]]));
        assert_eq!(lowest, Some(3));
    }
}
