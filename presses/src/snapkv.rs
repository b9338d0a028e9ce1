//! `snapkv`: the last tokens vote on what matters.

use pressroom::press::{Budget, Needs, Range, Scorer, Span};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

use crate::too_short;

pressroom::press! {
    /// Keeps what the last tokens attend to, and those tokens.
    ///
    /// # Idea
    /// The attention of an observation window at the end of the context predicts which earlier tokens an answer
    /// will need. Scores are smoothed over neighbouring tokens, so that evicting keeps phrases whole, and averaged
    /// over the query group of each KV head. The window itself is always kept.
    ///
    /// # Formula
    /// `score = mean over the query group of avg_pool(mean over window queries q of softmax(q K / sqrt(d)))`
    ///
    /// # Paper
    /// Li et al., "SnapKV: LLM Knows What You are Looking for Before Generation", 2024,
    /// <https://arxiv.org/abs/2404.14469>
    "snapkv" Scorer SnapKv {
        /// Tokens at the end of the context whose queries vote.
        window_size: usize = 64, Range::closed(1.0, 1e9);
        /// Width of the average pooling over tokens; odd.
        kernel_size: usize = 5, Range::closed(1.0, 1e6);
    }
}

impl Scorer for SnapKv {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs { queries: Span::Last(self.window_size), ..Needs::KEYS_AND_VALUES }
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        too_short("window_size", self.window_size, view)?;
        let (batch, kv_heads, group) = (view.batch(), view.geometry().kv_heads, view.geometry().group());
        // Only what lies before the window is pooled: its neighbours in the window do not vote for it.
        let in_window = view.last(self.window_size)?;
        let votes = view.window_votes(self.window_size)?.f_div_scalar(self.window_size as f64)?;
        let votes = votes.f_masked_fill(&in_window.f_unsqueeze(2)?, 0.0)?;
        let kernel = self.kernel_size as i64;
        let pooled =
            votes.f_view([batch * kv_heads, group, -1])?.f_avg_pool1d([kernel], [1], [kernel / 2], false, true)?;
        let scores = pooled.f_view([batch, kv_heads, group, -1])?.f_mean_dim([2i64].as_slice(), false, Kind::Float)?;
        Ok(scores.f_narrow(2, 0, view.tokens())?.f_masked_fill(&in_window, f64::INFINITY)?)
    }
}
