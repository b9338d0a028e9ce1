//! `tova`: the last token decides alone.

use pressroom::press::{Budget, Needs, Scorer, Span};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

pressroom::press! {
    /// Keeps what the last token attends to.
    ///
    /// # Idea
    /// The attention of the newest token, averaged over all heads of the layer, ranks the earlier ones, so that every
    /// head keeps the same tokens. The last token itself is always kept.
    ///
    /// # Formula
    /// `score = mean over all heads of softmax(q K / sqrt(d))`, `q` being the last query; infinite for the last token
    ///
    /// # Paper
    /// Oren et al., "Transformers are Multi-State RNNs", 2024, <https://arxiv.org/abs/2401.06104>
    "tova" Scorer Tova {}
}

impl Scorer for Tova {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs { queries: Span::Last(1), ..Needs::KEYS_AND_VALUES }
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        let geometry = view.geometry();
        let own = view.window_votes(1)?.f_sum_dim_intlist([2i64].as_slice(), false, Kind::Float)?;
        // Votes meet at the token they are for: after a stage of a chain heads may hold different ones.
        let votes = view
            .at_tokens(&own)?
            .f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?
            .f_div_scalar(geometry.heads)?
            .f_expand([view.batch(), geometry.kv_heads, -1], false)?;
        Ok(view.at_entries(&votes)?.f_masked_fill(&view.last(1)?, f64::INFINITY)?)
    }
}
