//! `knorm`: small keys attract attention.

use pressroom::error::During;
use pressroom::press::{Budget, Needs, Scorer};
use pressroom::{Result, view::LayerView};
use pressroom_kernels::vector_norm;
use tch::Tensor;

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
        Ok(vector_norm::l2(keys).during("key norms", &[keys])?.f_neg()?)
    }
}
