//! `knorm`: small keys attract attention.

use pressroom::error::During;
use pressroom::press::{Budget, Needs, Scorer};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

pressroom::press! {
    /// Keeps the keys with the smallest L2 norm.
    ///
    /// # Idea
    /// Keys of small norm tend to receive high attention, so the norm alone, which needs no query, ranks KV pairs.
    /// Norms are accumulated in float32: in half precision most of them tie.
    ///
    /// # Formula
    /// `score = -||k||`
    ///
    /// # Paper
    /// Devoto et al., "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression", 2024,
    /// <https://arxiv.org/abs/2406.11430>
    "knorm" Scorer Knorm {}
}

impl Scorer for Knorm {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs::KEYS_AND_VALUES
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        let keys = view.keys();
        let norms = keys.f_linalg_norm(2.0, [-1i64].as_slice(), false, Kind::Float);
        Ok(norms.during("key norms", &[keys])?.f_neg()?)
    }
}
