//! `observed_attention`: the attention of the whole context.

use pressroom::press::{Budget, Needs, Scorer};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

pressroom::press! {
    /// Keeps what received most attention on average.
    ///
    /// # Idea
    /// Every token of the context attends to those up to it. A KV pair is as important as the mean of the attention
    /// it received from the tokens that could see it; the mean makes up for late tokens being seen by few. The query
    /// group of a KV head is averaged.
    ///
    /// # Formula
    /// `score_i = mean over the query group of (sum over queries t >= i of A[t, i]) / (n - i)`, `n` being the tokens of
    /// the context
    ///
    /// # Paper
    /// Related to Zhang et al., "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models",
    /// 2023, <https://arxiv.org/abs/2306.14048>, which sums and does not average
    "observed_attention" Scorer ObservedAttention {}
}

impl Scorer for ObservedAttention {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs { attention_sums: true, ..Needs::KEYS_AND_VALUES }
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        let observers = view.positions()?.f_neg()?.f_add_scalar(view.context_end())?;
        Ok(group_attention(view)?.f_div(&observers)?)
    }
}

/// Attention that each entry received from all queries of the context, averaged over the query group, float32
/// `[batch, kv_heads, tokens]`.
pub(crate) fn group_attention(view: &LayerView<'_>) -> Result<Tensor> {
    let geometry = view.geometry();
    let grouped = view.attention_sums()?.f_view([view.batch(), geometry.kv_heads, geometry.group(), view.tokens()])?;
    Ok(grouped.f_mean_dim([2i64].as_slice(), false, Kind::Float)?)
}
