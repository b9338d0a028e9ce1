//! `h2o`: heavy hitters and recent tokens.

use pressroom::press::{Budget, Needs, Range, Scorer};
use pressroom::{Result, view::LayerView};
use tch::Tensor;

use crate::observed_attention::group_attention;

pressroom::press! {
    /// Keeps what received most attention in total, and the most recent tokens.
    ///
    /// # Idea
    /// A few tokens, the heavy hitters, receive most of the attention of all others. The budget is split: a part
    /// goes to the most recent tokens, whose attention has not gathered yet, the rest to the heavy hitters among the
    /// others. Attention is summed over all queries of the context under the causal mask and averaged over the query
    /// group.
    ///
    /// # Formula
    /// `score_i = mean over the query group of (sum over queries t >= i of A[t, i])`; infinite for the last
    /// `floor(recent_ratio * kept)` tokens
    ///
    /// # Paper
    /// Zhang et al., "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models", 2023,
    /// <https://arxiv.org/abs/2306.14048>; sums, split and window are those of the authors' code,
    /// <https://github.com/FMInference/H2O>, which has no query groups
    "h2o" Scorer H2o {
        /// Part of the budget that the most recent tokens fill.
        recent_ratio: f64 = 0.5, Range::closed(0.0, 1.0);
    }
}

impl Scorer for H2o {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs { attention_sums: true, ..Needs::KEYS_AND_VALUES }
    }

    fn scores_depend_on_budget(&self) -> bool {
        true
    }

    fn score(&self, view: &LayerView<'_>, budget: Budget) -> Result<Tensor> {
        let recent = (budget.kept(view.tokens()) as f64 * self.recent_ratio) as usize;
        Ok(group_attention(view)?.f_masked_fill(&view.last(recent)?, f64::INFINITY)?)
    }
}
