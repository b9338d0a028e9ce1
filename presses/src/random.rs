//! `random`: the baseline every other press has to beat.

use pressroom::press::{Budget, Needs, Range, Scorer};
use pressroom::view::LayerView;
use pressroom::{Result, random};
use tch::Tensor;

pressroom::press! {
    /// Keeps random KV pairs.
    ///
    /// # Idea
    /// Independent uniform scores for every KV pair of every head. The floor of any comparison: what a method
    /// gains over it is what its scores know.
    ///
    /// # Formula
    /// `score ~ U[0, 1)`
    ///
    /// # Paper
    /// None; a control.
    "random" Scorer Random {
        /// Seed of the scores, the same in every layer. Absent: derived from the run's seed and the layer.
        seed: Option<u64> = None, Range::closed(0.0, 9_007_199_254_740_992.0);
    }
}

impl Scorer for Random {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs::KEYS_AND_VALUES
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        // One draw for all sequences: a batch scores as its sequences do one by one.
        let shape = [1, view.geometry().kv_heads, view.tokens()];
        let scores = random::uniform(self.seed.unwrap_or_else(|| view.seed()), &shape, view.device())?;
        Ok(scores.f_expand([view.batch(), -1, -1], false)?)
    }
}
