//! Many run folders of one run become one.
//!
//! What is merged is a set: of equal answers one is kept, always the same one, so neither the order of folders nor how
//! often one is merged makes a difference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pressroom::plan::PositionRule;
use pressroom::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

use super::folder::{RunFolder, read_records, refuse_another};
use super::{EXPERIMENT, Key, Metrics, QUESTIONS, Record, SessionMetrics};
use crate::selections;

/// What metrics need to know of a run's plan.
#[derive(Debug, Deserialize)]
struct Stored {
    task: StoredTask,
    template_sha256: Option<String>,
    sessions: Vec<StoredSession>,
}

#[derive(Debug, Deserialize)]
struct StoredTask {
    question: pressroom::pipeline::Regime,
}

#[derive(Debug, Deserialize)]
struct StoredSession {
    label: String,
    ratio: Option<f64>,
    positions: PositionRule,
}

/// Merges `folders`, and what `output` holds already, into `output`. Gives the metrics of all of it.
///
/// # Errors
/// A folder is another run's (all that differs is named), or two answer a question differently (all such questions are
/// named): `output` stays as it was. It is in use, or cannot be written.
pub fn merge(output: &Path, folders: &[PathBuf]) -> Result<Metrics> {
    let first = folders.first().ok_or_else(|| Error::file(output, "there is nothing to merge into it"))?;
    let plan = plan(first)?;
    let mut merged = Merge::default();
    for folder in folders.iter().map(PathBuf::as_path).chain(output.join("plan.json").exists().then_some(output)) {
        refuse_another(folder, &self::plan(folder)?, &plan)?;
        merged.add(folder)?;
    }
    if !merged.conflicts.is_empty() {
        let problem = format!("is answered differently by the folders:\n  {}", merged.conflicts.join("\n  "));
        return Err(Error::file(output, problem));
    }
    let stored: Stored = Deserialize::deserialize(&plan).map_err(|error| Error::file(first, error.to_string()))?;
    let place = |record: &Record| {
        stored.sessions.iter().position(|session| session.label == record.press && session.ratio == record.ratio)
    };
    let mut records: Vec<Record> = merged.answers.into_values().collect();
    records.sort_by_key(|record| (record.index, place(record), record.turn));
    let mut target = RunFolder::open(output, &plan)?;
    for folder in folders {
        selections::merge(folder, output)?;
        beside(folder, &mut target)?;
    }
    target.replace(&records)?;
    let sessions = stored
        .sessions
        .iter()
        .map(|session| SessionMetrics::of(&session.label, session.ratio, session.positions, &records))
        .collect();
    let metrics = Metrics { question: stored.task.question, template_sha256: stored.template_sha256, sessions };
    target.write_json("metrics.json", &metrics)?;
    Ok(metrics)
}

/// Takes over what stands beside the journal and is the same in every folder of a run.
fn beside(folder: &Path, target: &mut RunFolder) -> Result<()> {
    for name in [QUESTIONS, EXPERIMENT] {
        let (from, to) = (folder.join(name), target.path().join(name));
        if from.exists() && !to.exists() {
            target.write(name, &std::fs::read(&from).map_err(Error::io(&from))?)?;
        }
    }
    Ok(())
}

/// What run a folder is of.
pub(super) fn plan(folder: &Path) -> Result<Value> {
    let path = folder.join("plan.json");
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    serde_json::from_str(&text).map_err(|error| Error::file(path, error.to_string()))
}

#[derive(Default)]
struct Merge {
    answers: BTreeMap<Key, Record>,
    conflicts: Vec<String>,
}

impl Merge {
    fn add(&mut self, folder: &Path) -> Result<()> {
        for record in read_records(folder)? {
            match self.answers.get_mut(&record.key()) {
                None => drop(self.answers.insert(record.key(), record)),
                Some(there) => match (&there.error, &record.error) {
                    (_, Some(_)) if there.error.is_none() => {}
                    (Some(_), None) => *there = record,
                    _ if untimed(there) == untimed(&record) => {
                        if times(&record) < times(there) {
                            *there = record;
                        }
                    }
                    _ => self.conflicts.push(format!(
                        "sample {}, question {}, {}: {:?} and {:?} ({})",
                        record.index,
                        record.turn,
                        record.named(),
                        there.prediction,
                        record.prediction,
                        folder.display()
                    )),
                },
            }
        }
        Ok(())
    }
}

/// What two machines have to agree on.
fn untimed(record: &Record) -> Record {
    Record { prefill_s: 0.0, decode_s: 0.0, elapsed_s: 0.0, ..record.clone() }
}

/// What they need not agree on; an order, so that always the same of two equal answers is kept.
fn times(record: &Record) -> [u64; 3] {
    [record.prefill_s, record.decode_s, record.elapsed_s].map(f64::to_bits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::record::tests::record;
    use super::*;

    fn folder(home: &Path, name: &str, records: &[Record]) -> PathBuf {
        let path = home.join(name);
        RunFolder::open(&path, &plan_of("a")).unwrap().append(records).unwrap();
        path
    }

    fn plan_of(model: &str) -> Value {
        let session = json!({"label": "knorm", "ratio": 0.5, "positions": "uncompressed"});
        json!({"model_sha256": model, "template_sha256": null, "task": {"question": "hidden"}, "sessions": [session]})
    }

    fn journal(folder: &Path) -> String {
        std::fs::read_to_string(folder.join("answers.jsonl")).unwrap()
    }

    #[test]
    fn order_grouping_and_repetition_make_no_difference() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let later = |index: usize| Record { decode_s: 0.7, ..record(index) };
        let a = folder(home.path(), "a", &[record(3), record(0)]);
        let b = folder(home.path(), "b", &[later(0), record(1)]);
        let c = folder(home.path(), "c", &[later(3), record(2), later(1)]);
        let metrics = merge(&at("abc"), &[a.clone(), b.clone(), c.clone()]).unwrap();
        assert_eq!((metrics.sessions[0].answers, metrics.sessions[0].score), (4, Some(1.0)));
        assert_eq!(read_records(&at("abc")).unwrap(), [record(0), record(1), record(2), record(3)]);
        merge(&at("cba"), &[c.clone(), b.clone(), a.clone()]).unwrap();
        merge(&at("ab"), &[a.clone(), b.clone()]).unwrap();
        merge(&at("ab-c"), &[at("ab"), c.clone()]).unwrap();
        merge(&at("bc"), &[b.clone(), c.clone()]).unwrap();
        merge(&at("a-bc"), &[a.clone(), at("bc")]).unwrap();
        merge(&at("abc"), &[at("abc"), a.clone(), b, at("cba"), a]).unwrap();
        for other in ["cba", "ab-c", "a-bc"] {
            assert_eq!(journal(&at("abc")), journal(&at(other)), "{other}");
        }
        let before = journal(&at("abc"));
        merge(&at("abc"), &[c.clone(), c]).unwrap();
        assert_eq!(journal(&at("abc")), before);
    }

    #[test]
    fn conflicts_are_named_and_change_nothing() {
        let home = tempfile::tempdir().unwrap();
        let a = folder(home.path(), "a", &[record(0), record(1)]);
        let other = Record { prediction: "other".into(), token_ids: vec![9], ..record(1) };
        let b = folder(home.path(), "b", &[record(0), other]);
        let output = home.path().join("out");
        for folders in [[a.clone(), b.clone()], [b, a.clone()]] {
            let error = merge(&output, &folders).unwrap_err().to_string();
            assert!(error.contains("sample 1, question 0, knorm at 0.50") && error.contains("\"other\""), "{error}");
            assert!(!error.contains("sample 0"), "{error}");
            assert!(!output.exists());
        }
        let c = home.path().join("c");
        drop(RunFolder::open(&c, &plan_of("b")).unwrap());
        let error = merge(&output, &[a, c]).unwrap_err().to_string();
        assert!(error.contains("another run") && error.contains("model_sha256"), "{error}");
    }

    #[test]
    fn an_answer_replaces_an_error() {
        let home = tempfile::tempdir().unwrap();
        let failed = |index: usize| Record { error: Some("out of memory".into()), ..record(index) };
        let a = folder(home.path(), "a", &[failed(0), failed(1)]);
        let b = folder(home.path(), "b", &[record(0)]);
        let output = home.path().join("out");
        for folders in [&[a.clone(), b.clone()][..], &[b][..], &[a][..]] {
            let metrics = merge(&output, folders).unwrap();
            assert_eq!((metrics.sessions[0].answers, metrics.sessions[0].errors), (1, 1));
            assert_eq!(read_records(&output).unwrap(), [record(0), failed(1)]);
        }
    }
}
