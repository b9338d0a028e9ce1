//! What is asked of a model: samples from a built-in task or a file, and how answers are scored.

mod jsonl;
mod metric;
mod needle;

use std::collections::BTreeMap;

use serde::Serialize;

pub use jsonl::read_jsonl;
pub use metric::Metric;
pub use needle::{Needle, needle_samples};

/// Numbers that place a sample within its task, such as the depth of a needle: what reports group by.
pub type Facets = BTreeMap<String, f64>;

/// One context and what is asked about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// The text that is compressed.
    pub context: String,
    /// The questions, each answered from the same compressed context.
    pub turns: Vec<Turn>,
    /// Name of the task or subtask.
    pub task: String,
    /// How its answers are scored.
    pub metric: Metric,
    /// Where it stands within its task.
    pub facets: Facets,
}

/// One question and the answers that count as right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Turn {
    /// What is asked.
    pub question: String,
    /// How the answer begins; given to the model.
    pub answer_prefix: String,
    /// The right answers, as the metric takes them.
    pub answers: Vec<String>,
    /// Most tokens of an answer.
    pub max_new_tokens: usize,
}
