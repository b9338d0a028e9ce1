//! `compactor`: outliers, and what the neighbourhood reads.

use pressroom::press::{Budget, Needs, Range, Scorer};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

use crate::{LeverageScore, NonCausalAttention};

pressroom::press! {
    /// Keeps keys of high leverage and keys that their neighbourhood attends to.
    ///
    /// # Idea
    /// Blends two verdicts that need no question: `leverage_score`, which finds keys that no others could stand in
    /// for, and `non_causal_attention`, which finds keys that are read. The more is evicted, the more leverage counts.
    /// The first and last tokens are always kept and take no part in the scores.
    ///
    /// # Formula
    /// `score = blending * leverage_score + non_causal_attention`; infinite for the first and last tokens
    ///
    /// # Paper
    /// Chari and Van Durme, "Compactor: Calibrated Query-Agnostic KV Cache Compression with Approximate Leverage
    /// Scores", 2025, <https://arxiv.org/abs/2507.08143>
    "compactor" Scorer Compactor {
        /// Tokens always kept at the start of the context.
        sink_size_start: usize = 8, Range::closed(0.0, 1e9);
        /// Tokens always kept at the end of the context.
        sink_size_end: usize = 4, Range::closed(0.0, 1e9);
        /// Tokens of a chunk of the non-causal attention.
        chunk_size: usize = 256, Range::closed(1.0, 1e9);
        /// Columns of the sketch of the leverage scores.
        sketch_dimension: usize = 48, Range::closed(1.0, 1e5);
        /// Weight of the leverage scores. Absent: the compression ratio.
        blending: Option<f64> = None, Range::at_least(0.0);
        /// Seed of the sketch, the same in every layer. Absent: derived from the run's seed and the layer.
        seed: Option<u64> = None, Range::closed(0.0, 9_007_199_254_740_992.0);
    }
}

impl Scorer for Compactor {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        self.attention().needs().union(self.leverage().needs())
    }

    fn scores_depend_on_budget(&self) -> bool {
        self.blending.is_none()
    }

    fn score(&self, view: &LayerView<'_>, budget: Budget) -> Result<Tensor> {
        // Of what is left, as of a context: a stage of a chain may have evicted the first tokens.
        let tokens = view.tokens();
        let start = tokens.min(self.sink_size_start as i64);
        let end = (tokens - start).min(self.sink_size_end as i64);
        let always = |count: i64| {
            let shape = [view.batch(), view.geometry().kv_heads, count];
            Tensor::f_full(shape, f64::INFINITY, (Kind::Float, view.device()))
        };
        let between = tokens - start - end;
        if between == 0 {
            return Ok(always(tokens)?);
        }
        let blending = self.blending.unwrap_or_else(|| budget.ratio(tokens));
        let middle = view.slice(start, between)?;
        let leverage = self.leverage().score(&middle, budget)?.f_mul_scalar(blending)?;
        let scores = self.attention().score(&middle, budget)?.f_add(&leverage)?;
        Ok(Tensor::f_cat(&[always(start)?, scores, always(end)?], 2)?)
    }
}

impl Compactor {
    fn leverage(&self) -> LeverageScore {
        LeverageScore { sketch_dimension: self.sketch_dimension, seed: self.seed }
    }

    fn attention(&self) -> NonCausalAttention {
        NonCausalAttention { chunk_size: self.chunk_size }
    }
}
