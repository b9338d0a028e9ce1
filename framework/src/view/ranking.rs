//! Scores of a view and the order they give, computed once however many sessions ask.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tch::{Kind, Tensor};

use super::LayerView;
use crate::error::{During, Error, Result};
use crate::press::{Budget, Scorer};
use pressroom_kernels::order;

/// Scorers' verdicts on a view, by their identity, and those on slices of it.
#[derive(Clone, Default)]
pub(super) struct Rankings {
    own: Rc<RefCell<HashMap<String, Ranking>>>,
    slices: Rc<RefCell<HashMap<(i64, i64), Self>>>,
}

impl Rankings {
    /// Those of the slice `start..start + length`, however often it is taken.
    pub(super) fn of_slice(&self, start: i64, length: i64) -> Self {
        self.slices.borrow_mut().entry((start, length)).or_default().clone()
    }
}

/// A scorer's verdict on a view, shared by every ratio that uses it.
struct Ranking {
    scores: Tensor,
    order: Option<Tensor>,
}

impl LayerView<'_> {
    /// The scorer's scores of this view, computed once however many sessions ask.
    /// Float32 `[batch, kv_heads, tokens]`; plus infinity marks entries that are always kept.
    ///
    /// # Errors
    /// The scorer fails, returns another shape, NaN or minus infinity.
    pub fn scores(&self, scorer: &dyn Scorer, budget: Budget) -> Result<Tensor> {
        let key = key(scorer, budget);
        if let Some(ranking) = self.rankings.own.borrow().get(&key) {
            return Ok(ranking.scores.shallow_clone());
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
        let ranking = Ranking { scores: scores.shallow_clone(), order: None };
        self.rankings.own.borrow_mut().insert(key, ranking);
        Ok(scores)
    }

    /// The entries of each head from most to least important, int64 `[batch, kv_heads, tokens]`.
    /// Ties go to the earlier entry, so the best `k` are always among the best `k + 1`.
    ///
    /// # Errors
    /// As [`Self::scores`].
    pub fn ranking(&self, scorer: &dyn Scorer, budget: Budget) -> Result<Tensor> {
        let scores = self.scores(scorer, budget)?;
        let key = key(scorer, budget);
        if let Some(order) = self.rankings.own.borrow().get(&key).and_then(|ranking| ranking.order.as_ref()) {
            return Ok(order.shallow_clone());
        }
        let order = order::descending(&scores).during("sorting scores", &[&scores])?;
        if let Some(ranking) = self.rankings.own.borrow_mut().get_mut(&key) {
            ranking.order = Some(order.shallow_clone());
        }
        Ok(order)
    }
}

/// What equal scores are known by.
fn key(scorer: &dyn Scorer, budget: Budget) -> String {
    let identity = scorer.identity();
    if scorer.scores_depend_on_budget() { format!("{identity} at {budget}") } else { identity }
}
