//! `scissorhands`: what was important stays important.

use pressroom::press::{Budget, Needs, Range, Scorer, Span};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

use crate::too_short;

/// Queries are taken this many at a time.
const BLOCK: i64 = 64;

pressroom::press! {
    /// Keeps what recent tokens attended to more than evenly, again and again.
    ///
    /// # Idea
    /// Tokens that were important at one step are important at the next ones. Over a history window at the end of the
    /// context it is counted how often a KV pair received more than its even share of a query's attention; how much
    /// more does not count. Counts are averaged over the query group. A shorter recent window is always kept.
    ///
    /// # Formula
    /// `score_i = mean over the query group of #{queries t of the history window: A[t, i] >= 1 / t}`, `t` being the
    /// KV pairs that the query sees; infinite for the recent window
    ///
    /// # Paper
    /// Liu et al., "Scissorhands: Exploiting the Persistence of Importance Hypothesis for LLM KV Cache Compression at
    /// Test Time", 2023, <https://arxiv.org/abs/2305.17118>; written after two implementations by others, which count so
    /// (<https://github.com/AnswerDotAI/cold-compress>) with these windows (<https://github.com/guozhiyu/vatp>)
    "scissorhands" Scorer Scissorhands {
        /// Tokens at the end of the context whose attention is counted.
        history_window: usize = 400, Range::closed(1.0, 1e9);
        /// Tokens at the end of the context that are always kept.
        recent_window: usize = 10, Range::closed(0.0, 1e9);
    }
}

impl Scorer for Scissorhands {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs { queries: Span::Last(self.history_window), ..Needs::KEYS_AND_VALUES }
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        too_short("recent_window", self.recent_window, view)?;
        let history = view.queries(Span::Last(self.history_window))?.size()[2];
        let (positions, end) = (view.positions()?, view.context_end());
        let shape = [view.batch(), view.geometry().kv_heads, view.tokens()];
        let mut counts = Tensor::f_zeros(shape, (Kind::Float, view.device()))?;
        for start in (end - history..end).step_by(BLOCK as usize) {
            let queries = start..(start + BLOCK).min(end);
            let at = Tensor::f_arange_start(queries.start, queries.end, (Kind::Int64, view.device()))?;
            let seen = positions.f_unsqueeze(-2)?.f_le_tensor(&at.f_unsqueeze(-1)?)?.f_sum_dim_intlist(
                [-1i64].as_slice(),
                true,
                Kind::Float,
            )?;
            let even = seen.f_reciprocal()?.f_unsqueeze(2)?;
            let important = view.attention_within(queries)?.f_ge_tensor(&even)?;
            let important = important.f_sum_dim_intlist([2i64, 3].as_slice(), false, Kind::Float)?;
            counts = counts.f_add(&important)?;
        }
        let scores = counts.f_div_scalar(view.geometry().group())?;
        Ok(scores.f_masked_fill(&view.last(self.recent_window)?, f64::INFINITY)?)
    }
}
