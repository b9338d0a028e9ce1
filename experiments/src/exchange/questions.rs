//! `questions.json` of a run folder: what was asked, without the contexts.

use std::path::Path;

use pressroom::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::results::QUESTIONS;
use crate::task::Sample;

/// A question as it was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Index of the sample.
    pub index: usize,
    /// Which of the questions about its context.
    pub turn: usize,
    /// Cells by their columns in kvpress's tables.
    pub columns: Map<String, Value>,
}

/// The questions of a run's samples.
pub fn questions(samples: &[Sample]) -> Vec<Asked> {
    let asked = |(index, sample): (usize, &Sample)| {
        let turns = sample.turns.iter().enumerate().map(|(turn, asked)| {
            let columns = [
                ("question", asked.question.clone()),
                ("answer_prefix", asked.answer_prefix.clone()),
                ("max_new_tokens", asked.max_new_tokens.to_string()),
            ];
            let columns = columns.map(|(name, cell)| (name.to_owned(), cell.into())).into_iter().collect();
            Asked { index, turn, columns }
        });
        turns.collect::<Vec<_>>()
    };
    samples.iter().enumerate().flat_map(asked).collect()
}

/// The questions that a run folder holds; none where it has no file of them.
///
/// # Errors
/// The file cannot be read, or is damaged.
pub fn read_questions(run: &Path) -> Result<Vec<Asked>> {
    let path = run.join(QUESTIONS);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::file(&path, error.to_string()))
}
