//! `cur`: keys and values of high energy.

use pressroom::press::{Budget, Needs, Range, Scorer};
use pressroom::{Result, random, view::LayerView};
use tch::{Kind, Tensor};

/// Columns of the random projection.
const PROJECTED: i64 = 20;

pressroom::choices! {
    /// What of a KV pair is judged.
    pub enum LeverageType { Key = "key", Value = "value", KvAvg = "kv_avg", KvProduct = "kv_product" }
}

pressroom::press! {
    /// Keeps the KV pairs whose keys and values have most of the energy around them.
    ///
    /// # Idea
    /// A CUR decomposition approximates a matrix by some of its own rows; good rows have high leverage, and squared
    /// norms stand in for leverage. They count relative to a local window, so that every part of the context keeps
    /// its strongest pairs, and the verdicts on key and value are combined.
    ///
    /// # Formula
    /// `score = l(k) * l(v)` (or one of them, or their mean) at sum 1, `l(x) = ||x||^2 / sum over its window of ||x||^2`;
    /// infinite for the first `num_sinks` tokens
    ///
    /// # Paper
    /// Sengupta et al., "Value-Guided KV Compression for LLMs via Approximated CUR Decomposition", 2025,
    /// <https://arxiv.org/abs/2509.15038>
    "cur" Scorer Cur {
        /// Tokens always kept at the start of the context.
        num_sinks: usize = 4, Range::closed(0.0, 1e9);
        /// What of a KV pair is judged.
        leverage_type: LeverageType = LeverageType::KvProduct, Range::ANY;
        /// Whether keys and values are projected to 20 random directions first.
        use_random_leverage: bool = false, Range::ANY;
        /// Whether squared norms count relative to those of their window.
        use_local_approximation: bool = true, Range::ANY;
        /// Tokens of a window.
        local_window_size: usize = 16, Range::closed(1.0, 1e9);
        /// Seed of the projection, the same in every layer. Absent: derived from the run's seed and the layer.
        seed: Option<u64> = None, Range::closed(0.0, 9_007_199_254_740_992.0);
    }
}

impl Scorer for Cur {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs::KEYS_AND_VALUES
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        let projection = match self.use_random_leverage {
            true => Some(self.projection(view)?),
            false => None,
        };
        let judge = |data: &Tensor| self.leverage(data, projection.as_ref());
        let scores = match self.leverage_type {
            LeverageType::Key => judge(view.keys())?,
            LeverageType::Value => judge(view.values())?,
            LeverageType::KvAvg => judge(view.keys())?.f_add(&judge(view.values())?)?.f_mul_scalar(0.5)?,
            LeverageType::KvProduct => judge(view.keys())?.f_mul(&judge(view.values())?)?,
        };
        Ok(share(&scores)?.f_masked_fill(&view.first(self.num_sinks)?, f64::INFINITY)?)
    }
}

impl Cur {
    fn projection(&self, view: &LayerView<'_>) -> Result<Tensor> {
        let shape = [view.geometry().head_dim, PROJECTED];
        let projection = random::normal(self.seed.unwrap_or_else(|| view.seed()), &shape, view.device())?;
        Ok(projection.f_mul_scalar(1.0 / (PROJECTED as f64).sqrt())?)
    }

    /// Squared norms of `data`, `[batch, kv_heads, tokens, head_dim]`, relative to their windows where asked for.
    fn leverage(&self, data: &Tensor, projection: Option<&Tensor>) -> Result<Tensor> {
        let data = data.f_to_kind(Kind::Float)?;
        let data = match projection {
            Some(projection) => data.f_matmul(projection)?,
            None => data,
        };
        let energy = data.f_square()?.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)?;
        if !self.use_local_approximation {
            return Ok(energy);
        }
        let (batch, kv_heads, tokens) = energy.size3()?;
        let window = self.local_window_size as i64;
        let padding = (window - tokens % window) % window;
        let windows = energy.f_constant_pad_nd([0, padding])?.f_view([batch, kv_heads, -1, window])?;
        Ok(share(&windows)?.f_view([batch, kv_heads, -1])?.f_narrow(2, 0, tokens)?)
    }
}

/// Parts of the sum along the last dimension; where all is zero, zero.
fn share(parts: &Tensor) -> Result<Tensor> {
    let total = parts.f_sum_dim_intlist([-1i64].as_slice(), true, Kind::Float)?;
    Ok(parts.f_div(&total.f_masked_fill(&total.f_eq(0.0)?, 1.0)?)?)
}
