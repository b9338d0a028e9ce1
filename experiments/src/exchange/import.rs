//! kvpress's results as a run folder, so that they stand beside ours.

use std::path::Path;

use pressroom::pipeline::Regime;
use pressroom::plan::BASELINE;
use pressroom::{Error, Result};
use serde_json::json;

use super::names::NO_PRESS;
use super::questions::Asked;
use super::results::{Results, Row};
use crate::results::{QUESTIONS, Record, RunFolder};

/// Reads all results in `from` whose press saw the question or not, as `regime` says, into the new run folder `to`.
/// Gives the number of answers. Presses keep their names there; what these stand for is in kvpress's registry.
///
/// # Errors
/// Nothing of that regime is there; results are of different models, data sets or questions, or of one press at one
/// ratio twice; a file cannot be read or written.
pub fn import(from: &Path, to: &Path, regime: Regime) -> Result<usize> {
    let mut all: Vec<(String, Results)> = Vec::new();
    let mut others = 0;
    for folder in Results::folders(from)? {
        let results = Results::read(&folder)?;
        if results.config.regime() == regime {
            all.push((folder.display().to_string(), results));
        } else {
            others += 1;
        }
    }
    let Some((first_folder, first)) = all.first() else {
        return Err(Error::file(from, format!("holds no results whose question is {regime}, but {others} others")));
    };
    for (folder, results) in &all[1..] {
        agree(first, results).map_err(|problem| Error::file(folder, format!("{problem} than {first_folder}")))?;
    }
    let questions =
        first.rows.iter().enumerate().map(|(index, row)| Asked { index, turn: 0, columns: row.columns.clone() });
    let questions: Vec<Asked> = questions.collect();
    let mut records: Vec<Record> = Vec::new();
    for (folder, results) in &all {
        let new: Vec<Record> =
            results.rows.iter().enumerate().map(|(index, row)| record(results, index, row)).collect();
        let twice = |record: &Record| records.iter().any(|other| other.key() == record.key());
        if let Some(record) = new.iter().find(|record| twice(record)) {
            return Err(Error::file(
                folder,
                format!("holds {} a second time; move one of the folders", record.named()),
            ));
        }
        records.extend(new);
    }
    let mut run = RunFolder::open(to, &plan(&all, regime))?;
    run.write_json(QUESTIONS, &questions)?;
    let done = run.finished_keys();
    let answers = records.len();
    records.retain(|record| !done.contains(&record.key()));
    run.append(&records)?;
    Ok(answers)
}

/// Why results cannot stand beside others, if they cannot.
fn agree(first: &Results, other: &Results) -> Result<(), String> {
    let pairs = first.config.subject().into_iter().zip(other.config.subject()).zip(["data set", "data_dir", "model"]);
    for ((own, theirs), what) in pairs {
        if own != theirs {
            return Err(format!("is of another {what}"));
        }
    }
    if first.rows.len() != other.rows.len() {
        return Err(format!("holds {} answers, other ones", other.rows.len()));
    }
    let same = |(own, theirs): (&Row, &Row)| {
        ["question", "answer", "task"].iter().all(|key| own.cell(key) == theirs.cell(key))
    };
    match first.rows.iter().zip(&other.rows).position(|pair| !same(pair)) {
        Some(row) => Err(format!("asks something else in row {}", row + 1)),
        None => Ok(()),
    }
}

/// What results call the press.
fn label(results: &Results) -> String {
    let name = results.config.text("press_name").unwrap_or_default();
    if name == NO_PRESS { BASELINE.to_owned() } else { name }
}

fn record(results: &Results, index: usize, row: &Row) -> Record {
    let ratio = results.config.ratio();
    // What kvpress does not tell (tokens, bytes, times) is 0.
    Record {
        press: label(results),
        ratio,
        index,
        task: row.cell("task").to_owned(),
        question: results.config.regime(),
        prediction: row.prediction.clone(),
        answers: row.answers(),
        metric: row.metric.clone(),
        score: row.score(),
        achieved_ratio: row.ratio.or(ratio).unwrap_or(0.0),
        ..Record::default()
    }
}

/// What stands in `plan.json`: as in a plan of ours what it has of one, and the configurations as they were.
fn plan(all: &[(String, Results)], regime: Regime) -> serde_json::Value {
    let first = &all[0].1.config;
    let session = |results: &Results| {
        let identity = results.config.text("press_init_command");
        let (label, ratio) = (label(results), results.config.ratio());
        json!({ "label": label, "ratio": ratio, "identity": identity, "positions": "uncompressed", "stages": [] })
    };
    json!({
        "model": { "path": first.text("model"), "device": first.text("device") },
        "task": { "name": first.text("dataset"), "data_dir": first.text("data_dir"), "question": regime },
        "seed": first.0.get("seed"),
        "sessions": all.iter().map(|(_, results)| session(results)).collect::<Vec<_>>(),
        "kvpress": all.iter().map(|(_, results)| &results.config.0).collect::<Vec<_>>(),
    })
}
