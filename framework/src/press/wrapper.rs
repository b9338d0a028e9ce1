//! Wrappers: presses around a scorer.

use std::sync::Arc;

use super::{Budget, ModelFacts, Needs, Press, Scorer, Selection};
use crate::error::Result;
use crate::view::LayerView;

/// Decides by the scores of another method.
pub trait Wrapper: Send + Sync {
    /// Name, parameters and the scorer's identity, as in `adakv(alpha_safeguard=0.2, press=knorm)`.
    fn identity(&self, scorer: String) -> String;

    /// Whether KV heads may keep different numbers (the cache becomes ragged).
    fn head_wise(&self) -> bool {
        false
    }

    /// Whether the keys kept move to other positions, so that later ones count from the kept length.
    fn moves_keys(&self) -> bool {
        false
    }

    /// What it reads of a layer, where its scorer reads `scorer`.
    fn needs(&self, scorer: Needs) -> Needs {
        scorer
    }

    /// Refuses scorers that it cannot decide by.
    ///
    /// # Errors
    /// `scorer` is one of them.
    fn check(&self, _scorer: &dyn Scorer) -> Result<()> {
        Ok(())
    }

    /// Decides on one layer.
    ///
    /// # Errors
    /// As [`Press::select`].
    fn select(&self, scorer: &dyn Scorer, view: &LayerView<'_>, budget: Budget) -> Result<Selection>;

    /// Decides on a layer whose KV heads are views of their own.
    ///
    /// # Errors
    /// As [`Press::select_heads`].
    fn select_heads(&self, scorer: &dyn Scorer, heads: &[LayerView<'_>], budget: Budget) -> Result<Selection> {
        Selection::of_each(heads, |head| self.select(scorer, head, budget))
    }
}

/// The press that a wrapper around a scorer is.
pub struct Around<W> {
    wrapper: W,
    scorer: Arc<dyn Scorer>,
}

impl<W: Wrapper> Around<W> {
    /// `wrapper` around `scorer`.
    ///
    /// # Errors
    /// The wrapper refuses the scorer.
    pub fn new(wrapper: W, scorer: Arc<dyn Scorer>) -> Result<Self> {
        wrapper.check(scorer.as_ref())?;
        Ok(Self { wrapper, scorer })
    }
}

impl<W: Wrapper> Press for Around<W> {
    fn identity(&self) -> String {
        self.wrapper.identity(self.scorer.identity())
    }

    fn needs(&self) -> Needs {
        self.wrapper.needs(self.scorer.needs())
    }

    fn head_wise(&self) -> bool {
        self.wrapper.head_wise()
    }

    fn moves_keys(&self) -> bool {
        self.wrapper.moves_keys()
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.scorer.prepare(model)
    }

    fn select(&self, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        self.wrapper.select(self.scorer.as_ref(), view, budget)
    }

    fn select_heads(&self, heads: &[LayerView<'_>], budget: Budget) -> Result<Selection> {
        self.wrapper.select_heads(self.scorer.as_ref(), heads, budget)
    }
}
