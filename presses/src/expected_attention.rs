//! `expected_attention`: what queries yet to come will attend to.

use pressroom::error::During;
use pressroom::press::{Budget, Needs, Range, Scorer, Span};
use pressroom::{Result, view::LayerView};
use pressroom_kernels::{quadratic, vector_norm};
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
    /// `score = (mean over the query group of softmax(k m / sqrt(d) + k S k / 2d) + epsilon) * ||v||`, with
    /// `m = R mean(q)`, `S = R cov(q) R^T`,
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
        let (mean, covariance) = self.query_statistics(view)?;
        self.score_with(view, &mean, covariance.as_ref())
    }
}

impl ExpectedAttention {
    /// Mean `[batch, heads, head_dim]` and covariance `[batch, heads, head_dim, head_dim]` of the context's queries
    /// before rotary embedding.
    fn query_statistics(&self, view: &LayerView<'_>) -> Result<(Tensor, Option<Tensor>)> {
        let queries = view.queries(Span::All)?.f_to_kind(Kind::Float)?;
        let observed = queries.size()[2];
        // While decoding, the first tokens are not among those observed.
        let sinks = (self.n_sink as i64 - (view.context_tokens() - observed)).max(0);
        let counted = queries.f_narrow(2, sinks, observed - sinks)?;
        let mean = counted.f_mean_dim([2i64].as_slice(), true, Kind::Float)?;
        let covariance = self.use_covariance.then(|| {
            let centered = counted.f_sub(&mean)?;
            let sums = centered.f_transpose(2, 3)?.f_matmul(&centered)?;
            sums.f_div_scalar(counted.size()[2])
        });
        let covariance = covariance.transpose().during("covariance of the queries", &[&counted])?;
        Ok((mean.f_squeeze_dim(2)?, covariance))
    }

    /// Scores by queries of that mean, `[1 or batch, heads, head_dim]`, and covariance,
    /// `[1 or batch, heads, head_dim, head_dim]`, before rotary embedding.
    ///
    /// # Errors
    /// The statistics are those of another model.
    pub(crate) fn score_with(
        &self,
        view: &LayerView<'_>,
        mean: &Tensor,
        covariance: Option<&Tensor>,
    ) -> Result<Tensor> {
        let geometry = view.geometry();
        let (kv_heads, group, channels) = (geometry.kv_heads, geometry.group(), geometry.head_dim);
        let future = view.context_end()..view.context_end() + self.n_future_positions as i64;
        let rotation = view.rotary().mean_rotation(future)?;
        let rotate = |vectors: &Tensor| vectors.f_matmul(&rotation.f_transpose(0, 1)?);

        let keys = view.keys();
        let mean = rotate(mean).during("rotating the mean query", &[mean, &rotation])?;
        let mean = mean.f_view([-1, kv_heads, group, channels])?.f_mul_scalar(1.0 / (channels as f64).sqrt())?;
        let logits = match covariance {
            Some(covariance) => {
                let rotated = rotate(covariance).and_then(|rotated| rotation.f_matmul(&rotated));
                let rotated = rotated.during("rotating the covariance of the queries", &[covariance, &rotation])?;
                let halved = rotated.f_view([-1, kv_heads, group, channels, channels])?;
                let halved = halved.f_mul_scalar(0.5 / channels as f64)?;
                quadratic::form(keys, &halved, Some(&mean)).during("expected attention", &[keys, &halved, &mean])?
            }
            None => {
                let keys = keys.f_to_kind(Kind::Float)?.f_transpose(2, 3)?;
                mean.f_matmul(&keys).during("expected attention", &[&mean, &keys])?
            }
        };
        let sinks = view.first(self.n_sink)?;
        let logits = logits.f_masked_fill(&sinks.f_unsqueeze(2)?, f64::from(f32::MIN))?;
        let mut scores = logits.f_softmax(-1, Kind::Float)?.f_mean_dim([2i64].as_slice(), false, Kind::Float)?;
        if self.use_vnorm {
            scores = scores.f_add_scalar(self.epsilon)?.f_mul(&vector_norm::l2(view.values())?)?;
        }
        Ok(scores.f_masked_fill(&sinks, f64::INFINITY)?)
    }
}
