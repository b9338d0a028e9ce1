//! `cap`: what the answer's capacity would lose.

use pressroom::error::During;
use pressroom::press::{Budget, Needs, Range, Scorer, Span};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

use crate::algebra::{leverage, unit};
use crate::too_short;

pressroom::press! {
    /// Keeps the values that span most of what future queries can read.
    ///
    /// # Idea
    /// The outputs that attention can form are spanned by the values, each weighted by how well its key matches an
    /// anchor: the mean query of the context under the average rotation of the next positions. A KV pair counts as
    /// much as the capacity of that span shrinks without it, which is the leverage of its value. Keys and anchor are
    /// compared by their directions. Scores are averaged over the query group.
    ///
    /// # Formula
    /// `score_i = w_i v_i^T A^-1 v_i`, `A = I + sum of (w_i + epsilon) v_i v_i^T`, `w_i = exp(tau (cos(k_i, m) - max))`, `m`
    /// being the anchor; infinite for the first `n_sink` tokens
    ///
    /// # Paper
    /// "CAPKV", 2026, <https://arxiv.org/abs/2604.25975>
    "cap" Scorer Cap {
        /// How sharply the match of key and anchor weighs.
        tau: f64 = 5.0, Range::closed(0.0, 1e6);
        /// Positions after the context over which the rotation is averaged.
        n_future_positions: usize = 512, Range::closed(1.0, 1e6);
        /// Tokens at the start that are always kept and left out of the statistics.
        n_sink: usize = 4, Range::closed(0.0, 1e9);
        /// Added to the weights within the capacity.
        epsilon: f64 = 1e-6, Range::at_least(0.0);
    }
}

impl Scorer for Cap {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs { queries: Span::All, ..Needs::KEYS_AND_VALUES }
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        too_short("n_sink", self.n_sink, view)?;
        let sinks = view.first(self.n_sink)?;
        let weights = self.weights(view, &sinks)?;
        let values = view.values().f_to_kind(Kind::Float)?.f_unsqueeze(2)?;
        let counted = weights.f_add_scalar(self.epsilon)?.f_masked_fill(&sinks.f_unsqueeze(2)?, 0.0)?;
        let capacity = values
            .f_mul(&counted.f_unsqueeze(-1)?)
            .and_then(|weighted| weighted.f_transpose(3, 4)?.f_matmul(&values))
            .during("capacity of the values", &[&values, &counted])?;
        // The identity of the capacity is the jitter of the factor.
        let leverage = leverage(&values, &capacity, 1.0)?;
        let scores = weights.f_mul(&leverage)?.f_mean_dim([2i64].as_slice(), false, Kind::Float)?;
        Ok(scores.f_masked_fill(&sinks, f64::INFINITY)?)
    }
}

impl Cap {
    /// How well each key matches the anchor, at most 1, `[batch, kv_heads, group, tokens]`.
    fn weights(&self, view: &LayerView<'_>, sinks: &Tensor) -> Result<Tensor> {
        let (batch, geometry) = (view.batch(), view.geometry());
        let anchor = self.anchor(view)?.f_view([batch, geometry.kv_heads, geometry.group(), geometry.head_dim])?;
        let (anchor, keys) = (unit(&anchor)?, unit(&view.keys().f_to_kind(Kind::Float)?)?);
        let similarity = anchor.f_matmul(&keys.f_transpose(2, 3)?).during("matching keys", &[&anchor, &keys])?;
        let logits = similarity.f_clamp(-1.0, 1.0)?.f_mul_scalar(self.tau)?;
        let logits = logits.f_masked_fill(&sinks.f_unsqueeze(2)?, f64::from(f32::MIN))?;
        Ok(logits.f_sub(&logits.f_amax([-1i64].as_slice(), true)?)?.f_exp()?)
    }

    /// The mean query of the context under the average rotation of the next positions, `[batch, heads, head_dim]`.
    fn anchor(&self, view: &LayerView<'_>) -> Result<Tensor> {
        let queries = view.queries(Span::All)?;
        let sinks = self.n_sink as i64;
        let counted = queries.f_narrow(2, sinks, queries.size()[2] - sinks)?;
        let mean = counted.f_mean_dim([2i64].as_slice(), false, Kind::Float)?;
        let future = view.context_end()..view.context_end() + self.n_future_positions as i64;
        Ok(mean.f_matmul(&view.rotary().mean_rotation(future)?.f_transpose(0, 1)?)?)
    }
}
