//! Scorers: presses that rank the KV pairs of each head and keep the best.

use std::sync::Arc;

use tch::Tensor;

use super::{Budget, ModelFacts, Needs, Press, Selection};
use crate::error::Result;
use crate::view::LayerView;

/// Ranks KV pairs. It only scores; how many survive is decided elsewhere, so one call serves every ratio.
pub trait Scorer: Send + Sync {
    /// Name and parameters, as in `snapkv(window_size=64, kernel_size=5)`. Equal identities score equally.
    fn identity(&self) -> String;

    /// What it reads of a layer.
    fn needs(&self) -> Needs;

    /// Scores `[batch, kv_heads, tokens]`: higher is kept longer, plus infinity always.
    ///
    /// `budget` is for the few methods whose scores depend on it; they say so with
    /// [`Self::scores_depend_on_budget`].
    ///
    /// # Errors
    /// The view is too short for the method, or a tensor operation fails.
    fn score(&self, view: &LayerView<'_>, budget: Budget) -> Result<Tensor>;

    /// Whether each budget has scores of its own, so that they cannot be shared.
    fn scores_depend_on_budget(&self) -> bool {
        false
    }

    /// KV pairs that each head keeps when the scorer decides alone.
    fn kept(&self, view: &LayerView<'_>, budget: Budget) -> i64 {
        budget.kept(view.tokens())
    }

    /// Reads what the method needs to know of the model, once, before any context.
    ///
    /// # Errors
    /// Side data is missing, damaged or another model's.
    fn prepare(&self, _model: &ModelFacts) -> Result<()> {
        Ok(())
    }
}

impl dyn Scorer + '_ {
    /// Keeps the best-scored entries of each KV head.
    ///
    /// # Errors
    /// As [`Scorer::score`].
    pub fn select(&self, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        if budget.keeps_all(view.tokens()) {
            return Ok(Selection::all());
        }
        Selection::ascending(view.best(self, budget, self.kept(view, budget))?)
    }
}

/// The press that a scorer is: keep the best-scored entries of each KV head.
#[derive(Clone)]
pub struct Scored(pub Arc<dyn Scorer>);

impl Press for Scored {
    fn identity(&self) -> String {
        self.0.identity()
    }

    fn needs(&self) -> Needs {
        self.0.needs()
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.0.prepare(model)
    }

    fn select(&self, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        self.0.select(view, budget)
    }
}
