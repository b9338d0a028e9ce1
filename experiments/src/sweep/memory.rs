//! What a run holds in memory, and how much of it may live at once.

use pressroom::model::{LlamaConfig, PrefillCost};
use pressroom::plan::SessionPlan;
use tch::Kind;

use super::unit::{Due, Unit};
use crate::task::{Sample, Turn};

/// What things take, in bytes, and what they may take together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All that the run may take.
    pub budget: u64,
    /// The weights.
    pub weights: u64,
    /// What a token takes.
    cost: PrefillCost,
    /// Whether a prefill's full cache is held to its end.
    full: bool,
}

impl Memory {
    /// For sessions of a model of this shape in this number format.
    pub fn new(config: &LlamaConfig, kind: Kind, budget: u64, sessions: &[SessionPlan], samples: &[Sample]) -> Self {
        let weights = config.parameters() * kind.elt_size_in_bytes() as u128;
        Self {
            budget,
            weights: u64::try_from(weights).unwrap_or(u64::MAX),
            cost: PrefillCost::of(config, kind),
            // Some presses look back at all of it, and continuations are compared with what it says.
            full: sessions.iter().any(|session| session.pipeline.context().is_some())
                || samples.iter().flat_map(|sample| &sample.turns).any(Turn::is_continuation),
        }
    }

    /// A compressed cache of a context, and the tails of answers of so many tokens each: their room doubles.
    pub fn session(&self, plan: &SessionPlan, context_tokens: usize, answers: impl Iterator<Item = usize>) -> u64 {
        let kept = context_tokens as f64 * (1.0 - plan.ratio.unwrap_or(0.0));
        let tails: usize = answers.map(|tokens| 2 * tokens).sum();
        (kept.ceil() as u64 + tails as u64) * self.cost.cache
    }

    /// What a prefill takes while it runs.
    pub fn prefill(&self, context_tokens: usize) -> u64 {
        let tokens = context_tokens as u64;
        self.cost.of_tokens(tokens) + if self.full { tokens * self.cost.cache } else { 0 }
    }

    /// Whether a unit fits beside sessions of `live` bytes.
    pub fn fits(&self, unit: &Unit, live: u64) -> bool {
        live + unit.bytes() <= self.room(unit.context_tokens)
    }

    /// Bytes that are left for sessions beside weights and a prefill.
    fn room(&self, context_tokens: usize) -> u64 {
        self.budget.saturating_sub(self.weights + self.prefill(context_tokens))
    }

    /// `whole` with as many of the sessions at a time as fit, one at least.
    pub fn divide(&self, whole: &Unit, due: Vec<Due>) -> Vec<Unit> {
        let room = self.room(whole.context_tokens);
        let mut parts: Vec<Unit> = Vec::new();
        for due in due {
            match parts.last_mut().filter(|part| part.bytes() + due.bytes <= room) {
                Some(part) => part.due.push(due),
                None => parts.push(Unit { due: vec![due], ..whole.clone() }),
            }
        }
        parts
    }
}
