//! `streaming_llm`: sinks and a sliding window.

use pressroom::press::{Budget, Needs, Range, Scorer};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

use crate::too_short;

pressroom::press! {
    /// Keeps the first tokens and the most recent ones.
    ///
    /// # Idea
    /// The first tokens act as attention sinks; losing them breaks the model, while the middle of the context can
    /// be dropped without breaking it. Positions stay those of the uncompressed context.
    ///
    /// # Formula
    /// `score = infinite for the first n_sink tokens, else the token's position`
    ///
    /// # Paper
    /// Xiao et al., "Efficient Streaming Language Models with Attention Sinks", 2023,
    /// <https://arxiv.org/abs/2309.17453>
    "streaming_llm" Scorer StreamingLlm {
        /// Tokens always kept at the start of the context.
        n_sink: usize = 4, Range::closed(0.0, 1e9);
    }
}

impl Scorer for StreamingLlm {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs::KEYS_AND_VALUES
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        too_short("n_sink", self.n_sink, view)?;
        let positions = view.positions()?.f_to_kind(Kind::Float)?;
        let scores = positions.f_masked_fill(&view.first(self.n_sink)?, f64::INFINITY)?;
        Ok(scores.f_expand([view.batch(), view.geometry().kv_heads, -1], false)?)
    }
}
