//! `pyramidkv`: low layers keep more.

use pressroom::press::{Budget, Needs, Range, Scorer};
use pressroom::{Result, view::LayerView};
use tch::Tensor;

use crate::SnapKv;

pressroom::press! {
    /// Keeps what the last tokens attend to, more of it in low layers than in high ones.
    ///
    /// # Idea
    /// Attention is spread over the context in low layers and funnels into few tokens in high ones. Scores are those
    /// of `snapkv`; the number kept falls linearly from the first layer to the last, and averages to what the
    /// compression ratio leaves. A context too short for that keeps the same number in every layer.
    ///
    /// # Formula
    /// `kept_l = max - l * (max - min) / (layers - 1)`, with `min = n (1 - ratio) / beta` and
    /// `max = 2 n (1 - ratio) - min`, or `max = n - window_size` where that is less and `min` what it leaves
    ///
    /// # Paper
    /// Cai et al., "PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling", 2024,
    /// <https://arxiv.org/abs/2406.02069>
    "pyramidkv" Scorer PyramidKv {
        /// Tokens at the end of the context whose queries vote; always kept.
        window_size: usize = 64, Range::closed(1.0, 1e9);
        /// Width of the average pooling over tokens; odd.
        kernel_size: usize = 5, Range::closed(1.0, 1e6);
        /// How much more than the last layer the first one keeps: the larger, the steeper.
        beta: usize = 20, Range::closed(1.0, 1e9);
    }
}

impl Scorer for PyramidKv {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        self.snapkv().needs()
    }

    fn score(&self, view: &LayerView<'_>, budget: Budget) -> Result<Tensor> {
        self.snapkv().score(view, budget)
    }

    fn kept(&self, view: &LayerView<'_>, budget: Budget) -> i64 {
        self.kept_in(view.layer(), view.geometry().layers, view.tokens(), budget)
    }
}

impl PyramidKv {
    fn snapkv(&self) -> SnapKv {
        SnapKv { window_size: self.window_size, kernel_size: self.kernel_size }
    }

    /// KV pairs that `layer` of `layers` keeps of `tokens`.
    fn kept_in(&self, layer: usize, layers: usize, tokens: i64, budget: Budget) -> i64 {
        let (all, window) = (tokens as f64, self.window_size as f64);
        let even = all * (1.0 - budget.ratio(tokens));
        let mut least = even / self.beta as f64;
        let mut most = 2.0 * even - least;
        if most >= all - window {
            most = all - window;
            least = 2.0 * even - most;
        }
        let is_pyramid = all >= most && most >= least && least >= window && layers > 1;
        let kept = match is_pyramid {
            true => most - layer as f64 * (most - least) / (layers as f64 - 1.0),
            false => even,
        };
        (kept.round_ties_even() as i64).clamp(1, tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn layers_keep_on_average_what_the_ratio_leaves(
            layers in 1usize..80, tokens in 1i64..20_000, ratio in 0.0f64..0.99, beta in 1usize..40, window in 1usize..100,
        ) {
            let press = PyramidKv { window_size: window, beta, ..PyramidKv::default() };
            let budget = Budget::from_ratio(ratio).unwrap();
            let kept: Vec<i64> = (0..layers).map(|layer| press.kept_in(layer, layers, tokens, budget)).collect();
            prop_assert!(kept.is_sorted_by(|lower, higher| lower >= higher));
            prop_assert!(kept.iter().all(|kept| (1..=tokens).contains(kept)));
            let mean = kept.iter().sum::<i64>() as f64 / layers as f64;
            prop_assert!((mean - (tokens as f64 * (1.0 - ratio)).max(1.0)).abs() <= 0.5 + 1e-6, "{kept:?}");
        }
    }
}
