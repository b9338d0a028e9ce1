//! `criticalkv`: what a value adds to the output counts too.

use std::sync::Arc;

use pressroom::error::During;
use pressroom::press::{Budget, ModelFacts, Needs, Params, Range, Scorer};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

/// Numbers that a part of a product may have while the processor's cache holds it.
const IN_CACHE: i64 = 1 << 18;

pressroom::press! {
    /// Weighs the scores of another method by what the values add to the output.
    ///
    /// # Idea
    /// Evicting a KV pair perturbs the attention block's output by its attention weight times its projected value. A
    /// first share of the budget goes to the best by score alone, the rest to the best by score times the L1 norm of
    /// the value after the output projection. What the scorer protects stays protected. Scorers that weigh by the norm
    /// of the value themselves (`expected_attention`) go without it here: `use_vnorm = false`.
    ///
    /// # Formula
    /// `score = infinite for the best floor(first_stage_ratio * n) by score, else (score + epsilon) * mean over the
    /// query group of ||W_o v||_1`, `n` being the number that the compression ratio leaves
    ///
    /// # Paper
    /// Feng et al., "Identify Critical KV Cache in LLM Inference from an Output Perturbation Perspective", 2025,
    /// <https://arxiv.org/abs/2502.03805>
    "criticalkv" Scorer CriticalKvParams wraps(press: Scorer) {
        /// Added to the scores before they are weighed.
        epsilon: f64 = 1e-4, Range::at_least(0.0);
        /// Fraction of the budget that goes by score alone; at least one KV pair unless 0.
        first_stage_ratio: f64 = 0.5, Range::closed(0.0, 1.0);
    }
}

/// The scorer: parameters and the scorer it wraps.
pub struct CriticalKv {
    params: CriticalKvParams,
    scorer: Arc<dyn Scorer>,
}

impl CriticalKv {
    /// Wraps `scorer`.
    ///
    /// # Errors
    /// Bad parameters.
    pub fn new(params: &Params, scorer: Arc<dyn Scorer>) -> Result<Self> {
        Ok(Self { params: CriticalKvParams::from_params(params)?, scorer })
    }
}

impl Scorer for CriticalKv {
    fn identity(&self) -> String {
        self.params.identity_around(&[self.scorer.identity()])
    }

    fn needs(&self) -> Needs {
        Needs { output_projection: true, ..self.scorer.needs() }
    }

    fn scores_depend_on_budget(&self) -> bool {
        true
    }

    fn kept(&self, view: &LayerView<'_>, budget: Budget) -> i64 {
        self.scorer.kept(view, budget)
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.scorer.prepare(model)
    }

    fn score(&self, view: &LayerView<'_>, budget: Budget) -> Result<Tensor> {
        let (tokens, share) = (view.tokens(), self.params.first_stage_ratio);
        let scores = view.scores(self.scorer.as_ref(), budget)?;
        let first = ((1.0 - budget.ratio(tokens)) * tokens as f64 * share) as i64;
        let first = if share > 0.0 { first.max(1) } else { first };
        let best = view.best(self.scorer.as_ref(), budget, first)?;
        weighed(&scores, self.params.epsilon, view)?.f_scatter_value(2, &best, f64::INFINITY).map_err(Into::into)
    }
}

/// `(score + epsilon) * norm` of the projected value; protected entries stay so.
pub(crate) fn weighed(scores: &Tensor, epsilon: f64, view: &LayerView<'_>) -> Result<Tensor> {
    let weighed = scores.f_add_scalar(epsilon)?.f_mul(&projected_norms(view)?)?;
    Ok(weighed.f_masked_fill(&scores.f_isposinf()?, f64::INFINITY)?)
}

/// L1 norms of the values after the output projection, mean over the query group, float32 `[batch, kv_heads, tokens]`.
fn projected_norms(view: &LayerView<'_>) -> Result<Tensor> {
    let geometry = view.geometry();
    let (group, head_dim) = (geometry.group(), geometry.head_dim);
    let values = view.values().f_to_kind(Kind::Float)?;
    let projection = view.output_projection()?.f_to_kind(Kind::Float)?.f_transpose(0, 1)?;
    // One query head and some tokens at a time: what is projected is summed while the processor's cache holds it.
    let rows = (IN_CACHE / projection.size2()?.1).clamp(1, view.tokens().max(1));
    let norms = (0..geometry.heads).map(|head| {
        let own = projection.f_narrow(0, head * head_dim, head_dim)?;
        let norms = values.f_select(1, head / group)?.f_split(rows, 1)?.into_iter().map(|values| {
            let projected = values.f_matmul(&own).during("projecting values", &[&values, &own])?;
            Ok(projected.f_linalg_norm(1.0, [-1i64].as_slice(), false, Kind::Float)?)
        });
        Ok(Tensor::f_cat(&norms.collect::<Result<Vec<_>>>()?, 1)?)
    });
    let norms = Tensor::f_stack(&norms.collect::<Result<Vec<_>>>()?, 1)?;
    Ok(norms.f_unflatten(1, [geometry.kv_heads, group])?.f_mean_dim([2i64].as_slice(), false, Kind::Float)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_stays_protected_when_the_first_stage_is_smaller() {
        crate::testing::with_view(40, |view| {
            let params = Params::from([("first_stage_ratio".into(), pressroom::press::Value::Number(0.0))]);
            let snapkv = Arc::new(crate::SnapKv { window_size: 6, kernel_size: 1 });
            let critical = CriticalKv::new(&params, snapkv).unwrap();
            let best = view.best(&critical, Budget::Ratio(0.8), 6).unwrap();
            for head in Vec::<Vec<i64>>::try_from(best.squeeze_dim(0)).unwrap() {
                assert!((34..40).all(|token| head.contains(&token)), "the window is not in {head:?}");
            }
        });
    }

    #[test]
    fn norms_are_those_of_the_projected_values() {
        crate::testing::with_view(7, |view| {
            let norms = projected_norms(view).unwrap();
            let projection = view.output_projection().unwrap().view([32, 4, 8]);
            for (head, token) in [(0, 0), (1, 6)] {
                let value = view.values().select(0, 0).select(0, head).select(0, token);
                let of = |query: i64| f64::try_from(projection.select(1, query).matmul(&value).abs().sum(Kind::Float));
                let due = (of(2 * head).unwrap() + of(2 * head + 1).unwrap()) / 2.0;
                assert!((norms.double_value(&[0, head, token]) - due).abs() < 1e-5);
            }
        });
    }
}
