//! The reference's columns: `context`, `question`, `answer_prefix`, `answer`, `max_new_tokens` and `task`.

use pressroom::Result;
use pressroom::pipeline::Truncation;

use super::row::Row;
use crate::task::{Facets, Metric, Sample, Turn};

/// Longest answer where neither the file nor the experiment says.
const MAX_NEW_TOKENS: usize = 50;

/// The sample of a row.
///
/// # Errors
/// A column is missing or of another type.
pub(super) fn sample(row: &Row, metric: Metric) -> Result<Sample> {
    let answers = if row.has("answers") { "answers" } else { "answer" };
    let turn = Turn {
        question: row.text("question")?.to_owned(),
        answer_prefix: row.optional_text("answer_prefix")?.unwrap_or_default().to_owned(),
        answers: row.texts(answers)?,
        max_new_tokens: row.count("max_new_tokens")?.unwrap_or(MAX_NEW_TOKENS),
        metric,
    };
    let context = row.text("context")?.to_owned();
    if context.trim().is_empty() {
        return Err(row.bad("`context` is empty: there is nothing to compress"));
    }
    Ok(Sample {
        context,
        turns: vec![turn],
        task: row.optional_text("task")?.unwrap_or(row.stem()).to_owned(),
        facets: Facets::new(),
        truncation: Truncation::End,
    })
}
