//! `critical_adakv`: heads share one budget, and what a value adds to the output counts.

use std::sync::Arc;

use pressroom::press::{Budget, ModelFacts, Needs, Params, Press, Range, Scorer, Selection};
use pressroom::{Result, view::LayerView};
use pressroom_kernels::order::descending;
use tch::{Kind, Tensor};

use crate::adakv::{best_of_all_heads, safeguard};
use crate::criticalkv::weighed;

pressroom::press! {
    /// Lets the heads of a layer compete for one budget, and weighs values inside each.
    ///
    /// # Idea
    /// `adakv` decides how many KV pairs each head keeps, `criticalkv` which: a first share of a head's budget goes to
    /// its best by score alone (those that the safeguard gave it among them), the rest to the best by score times the
    /// L1 norm of the value after the output projection.
    ///
    /// # Formula
    /// `n_h = how many adakv keeps of head h; kept = the best max(safeguard, floor(first_stage_ratio * n_h)) by score,
    /// then up to n_h the best by (score + epsilon) * mean over the query group of ||W_o v||_1`
    ///
    /// # Paper
    /// Feng et al., "Identify Critical KV Cache in LLM Inference from an Output Perturbation Perspective", 2025,
    /// <https://arxiv.org/abs/2502.03805>
    "critical_adakv" Press CriticalAdaKvParams wraps(press: Scorer) {
        /// Fraction of its even share that every head keeps; at least one KV pair unless 0.
        alpha_safeguard: f64 = 0.2, Range::closed(0.0, 1.0);
        /// Added to the scores before they are weighed.
        epsilon: f64 = 1e-4, Range::at_least(0.0);
        /// Fraction of a head's budget that goes by score alone.
        first_stage_ratio: f64 = 0.5, Range::closed(0.0, 1.0);
    }
}

/// The press: parameters and the scorer it wraps.
pub struct CriticalAdaKv {
    params: CriticalAdaKvParams,
    scorer: Arc<dyn Scorer>,
}

impl CriticalAdaKv {
    /// Wraps `scorer`.
    ///
    /// # Errors
    /// Bad parameters.
    pub fn new(params: &Params, scorer: Arc<dyn Scorer>) -> Result<Self> {
        Ok(Self { params: CriticalAdaKvParams::from_params(params)?, scorer })
    }
}

impl Press for CriticalAdaKv {
    fn identity(&self) -> String {
        self.params.identity_around(&[self.scorer.identity()])
    }

    fn needs(&self) -> Needs {
        Needs { output_projection: true, ..self.scorer.needs() }
    }

    fn head_wise(&self) -> bool {
        true
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.scorer.prepare(model)
    }

    fn select(&self, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        let tokens = view.tokens();
        if budget.keeps_all(tokens) {
            return Ok(Selection::all());
        }
        let scores = view.scores(self.scorer.as_ref(), budget)?;
        let order = view.ranking(self.scorer.as_ref(), budget)?;
        let kept = budget.kept(tokens);
        let safe = safeguard(kept, self.params.alpha_safeguard);
        let shares =
            best_of_all_heads(&scores, &order, kept, safe)?.f_sum_dim_intlist([2i64].as_slice(), true, Kind::Int64)?;
        let first = shares.f_mul_scalar(self.params.first_stage_ratio)?.f_to_kind(Kind::Int64)?.f_clamp_min(safe)?;
        let chosen = best(&order, &first)?;
        let weighed = weighed(&scores, self.params.epsilon, view)?.f_masked_fill(&chosen, f64::INFINITY)?;
        let order = descending(&weighed)?;
        Selection::from_mask(&best(&order, &shares)?)
    }
}

/// Whether an entry is among the first `count`, `[batch, kv_heads, 1]`, of its head's `order`, bool
/// `[batch, kv_heads, tokens]`.
fn best(order: &Tensor, count: &Tensor) -> Result<Tensor> {
    let ranks = Tensor::f_arange(order.size()[2], (Kind::Int64, order.device()))?;
    let among = ranks.f_lt_tensor(count)?;
    Ok(among.f_scatter(2, order, &among)?)
}
