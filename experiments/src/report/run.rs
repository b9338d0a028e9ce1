//! A run folder, read back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pressroom::{Error, Result};
use serde_json::Value;

use crate::exchange::{Asked, read_questions};
use crate::results::{Record, read_records};

/// What a run folder holds.
pub struct Run {
    /// The folder.
    pub path: PathBuf,
    /// Everything that decides the answers.
    pub plan: Value,
    /// What the speed depends on.
    pub machine: Value,
    /// What the answers were made to begin with, as far as the folder tells.
    pub answer_prefixes: BTreeSet<String>,
    /// The answers by sample, turn, press and ratio; of answers that were computed twice the last.
    pub records: Vec<Record>,
}

impl Run {
    /// Reads a run folder.
    ///
    /// # Errors
    /// It is no run folder, or one of another version.
    pub fn read(path: &Path) -> Result<Self> {
        let json = |name: &str| -> Result<Value> {
            let file = path.join(name);
            let text = std::fs::read(&file).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Error::file(path, format!("is no run folder: it holds no {name}")),
                _ => Error::io(&file)(error),
            })?;
            serde_json::from_slice(&text).map_err(|error| Error::file(&file, error.to_string()))
        };
        let (plan, machine) = (json("plan.json")?, json("machine.json")?);
        let mut records = read_records(path)?;
        records.reverse();
        records.sort_by(|a, b| order(a).partial_cmp(&order(b)).unwrap_or(std::cmp::Ordering::Equal));
        records.dedup_by(|later, first| later.key() == first.key());
        let asked = read_questions(path)?;
        let prefix = |asked: &Asked| asked.columns.get("answer_prefix")?.as_str().map(str::to_owned);
        let answer_prefixes = asked.iter().filter_map(prefix).collect();
        Ok(Self { path: path.to_owned(), plan, machine, answer_prefixes, records })
    }

    /// A text of the plan, by its keys.
    pub fn text(&self, keys: &[&str]) -> Option<&str> {
        keys.iter().try_fold(&self.plan, |value, key| value.get(key))?.as_str()
    }
}

fn order(record: &Record) -> (usize, usize, &str, f64) {
    (record.index, record.turn, &record.press, record.ratio.unwrap_or(1.0))
}
