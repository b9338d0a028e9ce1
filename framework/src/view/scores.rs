//! Scores of a view, computed once however many sessions ask, and the best by them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tch::{Kind, Tensor};

use super::LayerView;
use crate::error::{During, Error, Result};
use crate::press::{Budget, Scorer};
use pressroom_kernels::order;

/// What scorers gave a view, by their identity, and slices of it.
#[derive(Clone, Default)]
pub(super) struct Scores {
    own: Rc<RefCell<HashMap<String, Tensor>>>,
    slices: Rc<RefCell<HashMap<(i64, i64), Self>>>,
}

impl Scores {
    /// Those of the slice `start..start + length`, however often it is taken.
    pub(super) fn of_slice(&self, start: i64, length: i64) -> Self {
        self.slices.borrow_mut().entry((start, length)).or_default().clone()
    }
}

impl LayerView<'_> {
    /// The scorer's scores of this view, computed once however many sessions ask.
    /// Float32 `[batch, kv_heads, tokens]`; plus infinity marks entries that are always kept.
    ///
    /// # Errors
    /// The scorer fails, returns another shape, NaN or minus infinity.
    pub fn scores(&self, scorer: &dyn Scorer, budget: Budget) -> Result<Tensor> {
        let key = key(scorer, budget);
        if let Some(scores) = self.scores.own.borrow().get(&key) {
            return Ok(scores.shallow_clone());
        }
        let scores = scorer.score(self, budget)?.f_to_kind(Kind::Float)?;
        let expected = [self.batch(), self.geometry.kv_heads, self.tokens()];
        let identity = scorer.identity();
        if scores.size() != expected {
            return Err(Error::input(format!("{identity} gave scores {:?}, {expected:?} was due", scores.size())));
        }
        let unusable = scores.f_isnan()?.f_logical_or(&scores.f_isneginf()?)?.f_any()?.f_int64_value(&[])?;
        if unusable != 0 {
            return Err(Error::input(format!("{identity} gave scores that are NaN or minus infinity")));
        }
        self.scores.own.borrow_mut().insert(key, scores.shallow_clone());
        Ok(scores)
    }

    /// The best `count` entries of each head by a scorer's scores, int64 `[batch, kv_heads, count]`, ascending.
    /// Ties go to the earlier entry, so the best `k` are always among the best `k + 1`.
    ///
    /// # Errors
    /// As [`Self::scores`]; there are fewer entries.
    pub fn best(&self, scorer: &dyn Scorer, budget: Budget, count: i64) -> Result<Tensor> {
        let scores = self.scores(scorer, budget)?;
        order::best(&scores, count).during("choosing by scores", &[&scores])
    }
}

/// What equal scores are known by.
fn key(scorer: &dyn Scorer, budget: Budget) -> String {
    let identity = scorer.identity();
    if scorer.scores_depend_on_budget() { format!("{identity} at {budget}") } else { identity }
}
