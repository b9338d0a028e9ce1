//! `lagkv`: what stands out against the text that follows.

use pressroom::press::{Budget, Needs, Range, Scorer};
use pressroom::{Result, view::LayerView};
use pressroom_kernels::order::descending;
use tch::{Kind, Tensor};

/// Scaled values beyond are taken for this: the variance of larger ones overflows.
const LARGEST_SCALED: f64 = 1e15;

pressroom::press! {
    /// Keeps what varies most when seen on the scale of the next partition.
    ///
    /// # Idea
    /// The context is cut into partitions of `lag_size` KV pairs. The channels of a partition are scaled by the least
    /// and greatest values of the next one; a token whose scaled channels spread far carries what the following text
    /// lacks. Tokens compete within their partition. Sink tokens and the last partitions, which nothing follows, are
    /// kept before all others. Neither queries nor attention are read. A context of fewer than two partitions keeps
    /// the most recent tokens.
    ///
    /// # Formula
    /// `s(x) = softmax over the partition of std over channels of (x - min) / (max - min)`, min and max over the next
    /// partition; `score = the rank of (s(k) + s(v)) / 2 in its partition / lag_size`, or that mean with `cross_scoring`
    ///
    /// # Paper
    /// Liang et al., "LagKV: Lag-Relative Information of the KV Cache Tells Which Tokens Are Important", 2025,
    /// <https://arxiv.org/abs/2504.04704>
    "lagkv" Scorer LagKv {
        /// Tokens at the start that are always kept.
        n_sink: usize = 4, Range::closed(0.0, 1e9);
        /// KV pairs of a partition.
        lag_size: usize = 128, Range::closed(1.0, 1e9);
        /// Whether partitions compete with one another, for wrappers that move budgets.
        cross_scoring: bool = false, Range::ANY;
    }
}

impl Scorer for LagKv {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs::KEYS_AND_VALUES
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        // Partitions are of the cache as it stands: after a stage of a chain, of what is left.
        let (batch, kv_heads, tokens) = (view.batch(), view.geometry().kv_heads, view.tokens());
        let (lag, sinks) = (self.lag_size as i64, tokens.min(self.n_sink as i64));
        let whole = (tokens - sinks) / lag;
        let always = |count: i64| Tensor::f_full([batch, kv_heads, count], f64::INFINITY, (Kind::Float, view.device()));
        if whole < 2 {
            let recency = Tensor::f_arange(tokens - sinks, (Kind::Float, view.device()))?
                .f_div_scalar((tokens - sinks).max(1))?
                .f_expand([batch, kv_heads, -1], false)?;
            return Ok(Tensor::f_cat(&[always(sinks)?, recency], 2)?);
        }
        let spread = |data: &Tensor| -> Result<Tensor> {
            let partitions = data.f_narrow(2, sinks, whole * lag)?.f_to_kind(Kind::Float)?;
            lag_relative_spread(&partitions.f_view([batch, kv_heads, whole, lag, -1])?)
        };
        let mut scores = spread(view.keys())?.f_add(&spread(view.values())?)?.f_mul_scalar(0.5)?;
        if !self.cross_scoring {
            scores = ranks(&scores)?.f_div_scalar(lag)?;
        }
        let scored = (whole - 1) * lag;
        let scores = scores.f_view([batch, kv_heads, scored])?;
        Ok(Tensor::f_cat(&[always(sinks)?, scores, always(tokens - sinks - scored)?], 2)?)
    }
}

/// Of `partitions` `[.., n, lag, channels]` all but the last, by how far each token's channels spread on the scale of
/// the next partition: softmax over the partition, `[.., n - 1, lag]`.
fn lag_relative_spread(partitions: &Tensor) -> Result<Tensor> {
    let others = partitions.size()[2] - 1;
    let (judged, next) = (partitions.f_narrow(2, 0, others)?, partitions.f_narrow(2, 1, others)?);
    let least = next.f_amin([3i64].as_slice(), true)?;
    let range = next.f_amax([3i64].as_slice(), true)?.f_sub(&least)?;
    // A channel that never varies has no scale to be seen on.
    let flat = range.f_eq(0.0)?;
    let scaled = judged.f_sub(&least)?.f_div(&range.f_masked_fill(&flat, f64::INFINITY)?)?;
    let scaled = scaled.f_clamp(-LARGEST_SCALED, LARGEST_SCALED)?;
    // Of a single channel there is no spread.
    let spread = match scaled.size()[4] {
        1 => scaled.f_squeeze_dim(-1)?.f_zeros_like()?,
        _ => scaled.f_std_dim([-1i64].as_slice(), true, false)?,
    };
    Ok(spread.f_softmax(-1, Kind::Float)?)
}

/// Place of each score along the last dimension, the lowest being at 0 and, of equal ones, the earlier above the later.
fn ranks(scores: &Tensor) -> Result<Tensor> {
    let order = descending(scores)?;
    let last = scores.size()[scores.dim() - 1] - 1;
    let places = Tensor::f_arange(last + 1, (Kind::Float, scores.device()))?.f_neg()?.f_add_scalar(last)?;
    Ok(scores.f_scatter(-1, &order, &places.f_expand_as(scores)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_from_the_lowest_and_prefer_the_earlier() {
        let scores = Tensor::from_slice(&[0.5f32, 0.1, 0.9, 0.1]).view([1, 4]);
        assert_eq!(Vec::<f32>::try_from(ranks(&scores).unwrap().view(-1)).unwrap(), [2.0, 1.0, 3.0, 0.0]);
    }

    #[test]
    fn channels_without_a_range_say_nothing() {
        let spread = lag_relative_spread(&Tensor::ones([1, 1, 3, 4, 8], (Kind::Float, tch::Device::Cpu))).unwrap();
        assert_eq!(spread.size(), [1, 1, 2, 4]);
        assert_eq!(f64::try_from((spread - 0.25).abs().max()).unwrap(), 0.0);
    }
}
