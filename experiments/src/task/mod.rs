//! What is asked of a model: samples from a built-in task or a file, and how answers are scored.

mod jsonl;
mod needle;
mod score;

pub use jsonl::read_jsonl;
pub use needle::{Needle, needle_samples};
pub use score::string_match;

/// One context with one question and the answers that count as right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The text that is compressed.
    pub context: String,
    /// What is asked about it.
    pub question: String,
    /// How the answer begins; given to the model.
    pub answer_prefix: String,
    /// Strings that a right answer contains.
    pub answers: Vec<String>,
    /// Most tokens of an answer.
    pub max_new_tokens: usize,
    /// Name of the task or subtask.
    pub task: String,
}
