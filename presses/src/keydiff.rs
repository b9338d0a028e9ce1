//! `keydiff`: keys unlike the others.

use pressroom::error::During;
use pressroom::press::{Budget, Needs, Scorer};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

use crate::algebra::unit;

pressroom::press! {
    /// Keeps the keys that differ most from the average key.
    ///
    /// # Idea
    /// Tokens that many queries look for have keys unlike those of others, so geometry replaces attention: the less
    /// similar a key is to the mean direction of all keys, the longer it is kept. The paper evicts block by block as
    /// the context is read; the press `block` around this one does that.
    ///
    /// # Formula
    /// `score = -cos(k, mean over tokens of k / ||k||)`
    ///
    /// # Paper
    /// Park et al., "KeyDiff: Key Similarity-Based KV Cache Eviction for Long-Context LLM Inference in
    /// Resource-Constrained Environments", 2025, <https://arxiv.org/abs/2504.15364>
    "keydiff" Scorer KeyDiff {}
}

impl Scorer for KeyDiff {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs::KEYS_AND_VALUES
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        let keys = view.keys().f_to_kind(Kind::Float)?;
        let directions = unit(&keys)?;
        let anchor = unit(&directions.f_mean_dim([2i64].as_slice(), true, Kind::Float)?)?;
        let cosines = directions.f_matmul(&anchor.f_transpose(2, 3)?).during("key similarity", &[&keys, &anchor])?;
        Ok(cosines.f_squeeze_dim(-1)?.f_neg()?)
    }
}
