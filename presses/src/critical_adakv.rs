//! `critical_adakv`: heads share one budget, and what a value adds to the output counts.

use pressroom::press::{Budget, Needs, Range, Scorer, Selection, Wrapper};
use pressroom::{Result, view::LayerView};
use tch::Kind;

use crate::adakv::{best_of_all_heads, best_of_each_head, safeguard};
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
    "critical_adakv" Press CriticalAdaKv wraps(press: Scorer) {
        /// Fraction of its even share that every head keeps; at least one KV pair unless 0.
        alpha_safeguard: f64 = 0.2, Range::closed(0.0, 1.0);
        /// Added to the scores before they are weighed.
        epsilon: f64 = 1e-4, Range::at_least(0.0);
        /// Fraction of a head's budget that goes by score alone.
        first_stage_ratio: f64 = 0.5, Range::closed(0.0, 1.0);
    }
}

impl Wrapper for CriticalAdaKv {
    fn identity(&self, scorer: String) -> String {
        self.identity_around(&[scorer])
    }

    fn needs(&self, scorer: Needs) -> Needs {
        Needs { output_projection: true, ..scorer }
    }

    fn head_wise(&self) -> bool {
        true
    }

    fn select(&self, scorer: &dyn Scorer, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        let tokens = view.tokens();
        if budget.keeps_all(tokens) {
            return Ok(Selection::all());
        }
        let scores = view.scores(scorer, budget)?;
        let kept = budget.kept(tokens);
        let safe = safeguard(kept, self.alpha_safeguard);
        let shares =
            best_of_all_heads(&scores, kept, safe)?.f_sum_dim_intlist([2i64].as_slice(), false, Kind::Int64)?;
        let shares: Vec<i64> = shares.f_flatten(0, 1)?.try_into()?;
        let first = shares.iter().map(|share| ((*share as f64 * self.first_stage_ratio) as i64).max(safe));
        let chosen = best_of_each_head(&scores, &first.collect::<Vec<_>>())?;
        let weighed = weighed(&scores, self.epsilon, view)?.f_masked_fill(&chosen, f64::INFINITY)?;
        Selection::from_mask(&best_of_each_head(&weighed, &shares)?)
    }
}
