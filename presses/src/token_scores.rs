//! Scores of tokens rather than of single KV pairs: what all heads say together.

use pressroom::press::{Budget, Scorer};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

/// What the heads of a layer say together about each token.
pub(crate) struct TokenScores {
    /// Scores summed over KV heads, finite float32 `[batch, tokens]`. A head that protects an entry counts it as
    /// one more than the highest score of the sequence.
    pub scores: Tensor,
    /// Whether all heads protect the token, bool `[batch, tokens]`.
    pub protected: Tensor,
}

impl TokenScores {
    /// What a scorer says about a view.
    pub fn of(view: &LayerView<'_>, scorer: &dyn Scorer, budget: Budget) -> Result<Self> {
        let scores = view.scores(scorer, budget)?;
        let protected = scores.f_isposinf()?;
        let highest = scores.f_masked_fill(&protected, f64::NEG_INFINITY)?.f_amax([1, 2], true)?;
        // Minus infinity where everything is protected.
        let stand_in = highest.f_nan_to_num(0.0, None, Some(0.0))?.f_add_scalar(1.0)?;
        let scores = stand_in.f_where_self(&protected, &scores)?;
        Ok(Self {
            scores: scores.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?,
            protected: protected.f_all_dim(1, false)?,
        })
    }
}
