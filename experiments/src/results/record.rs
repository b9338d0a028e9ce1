//! One answer with everything that is known about it.

use std::collections::BTreeMap;

use pressroom::pipeline::{Regime, StopReason};
use serde::{Deserialize, Serialize};

use crate::task::{Facets, Metric};

/// One answer, or the error in its place; by default, what is known before there is either.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Label of the press.
    pub press: String,
    /// Compression ratio asked for (mean over layers); absent where a budget is a number of tokens or the press's own.
    pub ratio: Option<f64>,
    /// Index of the sample.
    pub index: usize,
    /// Which of the questions about the sample's context this is.
    pub turn: usize,
    /// Name of the task.
    pub task: String,
    /// Whether the press saw the question.
    pub question: Regime,
    /// The generated text.
    pub prediction: String,
    /// Its tokens, the ending one included.
    pub token_ids: Vec<i64>,
    /// The answers that were right.
    pub answers: Vec<String>,
    /// What scored the prediction.
    pub metric: Metric,
    /// Score between 0 and 1.
    pub score: f64,
    /// What else was measured: `strict`, the score without credit for rambling; of a continuation `nll`, `kl` and
    /// `agreement` (see [`pressroom::pipeline::Likelihood`]).
    #[serde(default)]
    pub measures: BTreeMap<String, f64>,
    /// Where the sample stands within its task.
    pub facets: Facets,
    /// Why generation ended; absent for an error.
    pub stop_reason: Option<StopReason>,
    /// Tokens of the context.
    pub context_tokens: usize,
    /// Tokens that were cut from the context because the model has no more positions.
    pub truncated_tokens: usize,
    /// The fraction of the KV pairs that was removed, over all layers and heads.
    pub achieved_ratio: f64,
    /// Allocated bytes of the compressed cache, before the question.
    pub cache_bytes: u64,
    /// Bytes that the context takes uncompressed.
    pub uncompressed_bytes: u64,
    /// Seconds of the prefill that served all presses of the sample.
    pub prefill_s: f64,
    /// Seconds of question and generation that are this answer's share: a step's time is divided among the sequences
    /// that were decoded together by the tokens that each fed.
    pub decode_s: f64,
    /// Seconds from the question to the answer's end, the others' share included.
    pub elapsed_s: f64,
    /// What went wrong, if anything did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What tells one answer of a run from another.
pub type Key = (String, Option<u64>, usize, usize);

impl Record {
    /// The press and its ratio, as messages name them.
    pub fn named(&self) -> String {
        match self.ratio {
            Some(ratio) => format!("{} at {ratio:.2}", self.press),
            None => self.press.clone(),
        }
    }

    /// The answer's identity within its run.
    pub fn key(&self) -> Key {
        (self.press.clone(), self.ratio.map(f64::to_bits), self.index, self.turn)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An answer with something of everything.
    pub(in crate::results) fn record(index: usize) -> Record {
        Record {
            press: "knorm".into(),
            ratio: Some(0.5),
            index,
            turn: 0,
            task: "needle".into(),
            question: Regime::Hidden,
            prediction: "12345 \u{1F600}\n".into(),
            token_ids: vec![1, 2],
            answers: vec!["12345".into()],
            metric: Metric::StringMatch,
            score: 1.0,
            measures: BTreeMap::from([("strict".into(), 0.5)]),
            facets: Facets::from([("depth".into(), 1.0 / 3.0)]),
            stop_reason: Some(StopReason::Eos),
            context_tokens: 10,
            truncated_tokens: 0,
            achieved_ratio: 0.5,
            cache_bytes: 5,
            uncompressed_bytes: 10,
            prefill_s: 0.1,
            decode_s: 0.2,
            elapsed_s: 0.4,
            error: None,
        }
    }
}
