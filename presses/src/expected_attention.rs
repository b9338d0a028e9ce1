//! `expected_attention`: what queries yet to come will attend to.

use pressroom::error::During;
use pressroom::press::{Budget, Needs, Range, Scorer, Span};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

use crate::too_short;

pressroom::press! {
    /// Keeps what future queries are expected to attend to.
    ///
    /// # Idea
    /// Queries before rotary embedding are roughly normal. Their mean and covariance over the context, rotated by
    /// the average rotation of the next positions, give the expected attention of a future query to each key in
    /// closed form. It is averaged over the query group and weighted by the norm of the value.
    ///
    /// # Formula
    /// `score = (softmax(k m / sqrt(d) + k S k / 2d) + epsilon) * ||v||`, with `m = R mean(q)`, `S = R cov(q) R^T`,
    /// `R` the mean rotation of the next `n_future_positions` positions; infinite for the first `n_sink` tokens
    ///
    /// # Paper
    /// Devoto, Jeblick and Jégou, "Expected Attention: KV Cache Compression by Estimating Attention from Future
    /// Queries Distribution", 2025, <https://arxiv.org/abs/2510.00636>
    "expected_attention" Scorer ExpectedAttention {
        /// Positions after the context over which the rotation is averaged.
        n_future_positions: usize = 512, Range::closed(1.0, 1e6);
        /// Tokens at the start that are always kept and left out of the statistics.
        n_sink: usize = 4, Range::closed(0.0, 1e9);
        /// Whether the covariance of the queries counts, not their mean alone.
        use_covariance: bool = true, Range::ANY;
        /// Whether scores are weighted by the norm of the value.
        use_vnorm: bool = true, Range::ANY;
        /// Added to the expected attention before weighting.
        epsilon: f64 = 0.0, Range::at_least(0.0);
    }
}

impl Scorer for ExpectedAttention {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs { queries: Span::All, ..Needs::KEYS_AND_VALUES }
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        too_short("n_sink", self.n_sink, view)?;
        let geometry = view.geometry();
        let (batch, kv_heads, group) = (view.batch(), geometry.kv_heads, geometry.group());
        let head_dim = geometry.head_dim as f64;
        let (mean, covariance) = self.query_statistics(view)?;

        // In float32: the quadratic form exceeds what half precision holds.
        let keys = &view.keys().f_to_kind(Kind::Float)?;
        let mean = mean.f_view([batch, kv_heads, group, geometry.head_dim])?;
        let mut logits = mean.f_matmul(&keys.f_transpose(2, 3)?).during("expected attention", &[&mean, keys])?;
        logits = logits.f_mul_scalar(1.0 / head_dim.sqrt())?;
        if let Some(covariance) = covariance {
            // k S k for every key and query head of its group, without repeating the keys.
            let covariance = covariance.f_view([batch, kv_heads, group, geometry.head_dim, geometry.head_dim])?;
            let wide = keys.f_unsqueeze(2)?;
            let form = wide.f_matmul(&covariance).and_then(|product| product.f_mul(&wide));
            let form = form.during("expected attention's quadratic form", &[keys, &covariance])?;
            let form = form.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)?;
            logits = logits.f_add(&form.f_mul_scalar(0.5 / head_dim)?)?;
        }
        let sinks = view.first(self.n_sink)?;
        let logits = logits.f_masked_fill(&sinks.f_unsqueeze(2)?, f64::from(f32::MIN))?;
        let mut scores = logits.f_softmax(-1, Kind::Float)?.f_mean_dim([2i64].as_slice(), false, Kind::Float)?;
        if self.use_vnorm {
            let norms = view.values().f_linalg_norm(2.0, [-1i64].as_slice(), false, Kind::Float)?;
            scores = scores.f_add_scalar(self.epsilon)?.f_mul(&norms)?;
        }
        Ok(scores.f_masked_fill(&sinks, f64::INFINITY)?)
    }
}

impl ExpectedAttention {
    /// Mean `[batch, heads, head_dim]` and covariance `[batch, heads, head_dim, head_dim]` of future queries.
    fn query_statistics(&self, view: &LayerView<'_>) -> Result<(Tensor, Option<Tensor>)> {
        let queries = view.queries(Span::All)?.f_to_kind(Kind::Float)?;
        let sinks = self.n_sink as i64;
        let counted = queries.f_narrow(2, sinks, queries.size()[2] - sinks)?;
        let mean = counted.f_mean_dim([2i64].as_slice(), true, Kind::Float)?;
        let future = view.context_end()..view.context_end() + self.n_future_positions as i64;
        let rotation = view.rotary().mean_rotation(future)?;
        let rotate = |vectors: &Tensor| vectors.f_matmul(&rotation.f_transpose(0, 1)?);
        let rotated_mean = rotate(&mean.f_squeeze_dim(2)?).during("rotating the mean query", &[&mean, &rotation])?;
        if !self.use_covariance {
            return Ok((rotated_mean, None));
        }
        let centered = counted.f_sub(&mean)?;
        let covariance = centered
            .f_transpose(2, 3)?
            .f_matmul(&centered)
            .and_then(|sums| sums.f_div_scalar(counted.size()[2]))
            .and_then(|covariance| rotation.f_matmul(&rotate(&covariance)?))
            .during("covariance of the queries", &[&counted, &rotation])?;
        Ok((rotated_mean, Some(covariance)))
    }
}
