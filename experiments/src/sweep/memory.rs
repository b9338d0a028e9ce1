//! What a run holds in memory, and how much of it may live at once.

use pressroom::model::LlamaConfig;
use pressroom::plan::SessionPlan;
use tch::Kind;

use super::unit::{Due, Unit};

/// Tokens that the model's MLP takes at a time.
const SLICE: usize = 2048;

/// What things take, in bytes, and what they may take together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All that the run may take.
    pub budget: u64,
    /// The weights.
    pub weights: u64,
    /// Keys and values of a token.
    kv_token: u64,
    /// What a prefill holds of a token: the residual stream twice, and one layer's queries, keys, values and output.
    prefill_token: u64,
    /// What it holds of a token of the slice that it is at.
    slice_token: u64,
}

impl Memory {
    /// For a model of this shape in this number format.
    pub fn new(config: &LlamaConfig, kind: Kind, budget: u64) -> Self {
        let element = kind.elt_size_in_bytes() as u64;
        let bytes = |elements: u128| u64::try_from(elements).unwrap_or(u64::MAX).saturating_mul(element);
        let width = |elements: i64| elements.unsigned_abs() * element;
        let attention = width((2 * config.num_attention_heads + 2 * config.num_key_value_heads) * config.head_dim);
        Self {
            budget,
            weights: bytes(config.parameters()),
            kv_token: bytes(config.kv_elements_per_token()),
            prefill_token: 2 * width(config.hidden_size) + attention,
            slice_token: width(3 * config.intermediate_size + 2 * config.hidden_size),
        }
    }

    /// A compressed cache of a context, and the tails of answers of so many tokens each: their room doubles.
    pub fn session(&self, plan: &SessionPlan, context_tokens: usize, answers: impl Iterator<Item = usize>) -> u64 {
        let kept = context_tokens as f64 * (1.0 - plan.ratio.unwrap_or(0.0));
        let tails: usize = answers.map(|tokens| 2 * tokens).sum();
        (kept.ceil() as u64 + tails as u64) * self.kv_token
    }

    /// What a prefill takes while it runs, the full cache that some presses look back at included.
    pub fn prefill(&self, context_tokens: usize) -> u64 {
        let slice = context_tokens.min(SLICE) as u64 * self.slice_token;
        context_tokens as u64 * (self.prefill_token + self.kv_token) + slice
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
