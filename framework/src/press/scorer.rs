//! Scorers: presses that rank the KV pairs of each head and keep the best.

use std::sync::Arc;

use tch::Tensor;

use super::{Budget, Needs, Press, Selection};
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
    /// # Errors
    /// The view is too short for the method, or a tensor operation fails.
    fn score(&self, view: &LayerView<'_>) -> Result<Tensor>;
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

    fn select(&self, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        if budget.keeps_all() {
            return Ok(Selection::all());
        }
        let best = view.ranking(self.0.as_ref())?.f_narrow(2, 0, budget.kept(view.tokens()))?;
        Selection::uniform(&best)
    }
}
