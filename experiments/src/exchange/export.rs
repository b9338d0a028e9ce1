//! A run folder as kvpress's results.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pressroom::{Error, Result};
use serde_json::{Map, Value, json};

use super::config::Config;
use super::names::{Names, in_config};
use super::questions::{Asked, read_questions};
use super::results::{Results, Row, metric};
use crate::python;
use crate::report::Run;
use crate::results::Record;

/// What the results are called where the run does not say.
#[derive(Clone, Debug, Default)]
pub struct Naming {
    /// Name of the data set; the task's if there is none.
    pub dataset: Option<String>,
    /// Its part, such as a length.
    pub data_dir: Option<String>,
}

/// Writes a results folder into `to` for each press and ratio of the run folder `from`, without the answers that an error
/// stands for. Gives the folders.
///
/// # Errors
/// `from` is no run folder, or a results folder is there already or cannot be written.
pub fn export(from: &Path, to: &Path, naming: &Naming) -> Result<Vec<PathBuf>> {
    let run = Run::read(from)?;
    let names = Names::known()?;
    let asked = read_questions(from)?;
    let asked: BTreeMap<(usize, usize), &Asked> =
        asked.iter().map(|asked| ((asked.index, asked.turn), asked)).collect();
    let sessions = run.plan["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut folders = Vec::new();
    for (at, session) in sessions.iter().enumerate() {
        let own = |record: &&Record| {
            session["label"] == *record.press && session["ratio"].as_f64() == record.ratio && record.error.is_none()
        };
        let records: Vec<&Record> = run.records.iter().filter(own).collect();
        if records.is_empty() {
            continue;
        }
        let config = match run.plan["kvpress"][at].as_object() {
            Some(theirs) => Config(theirs.clone()),
            None => config(&run, session, &names, naming),
        };
        // kvpress tells no ratio of presses that act in decoding.
        let told = config.0.get("target_size").is_none_or(Value::is_null);
        let rows = records.iter().map(|record| {
            let metric = metric(&config, &record.task).unwrap_or_else(|_| record.metric.clone());
            let ratio = told.then_some(record.achieved_ratio);
            Row { metric, ratio, ..row(record, asked.get(&(record.index, record.turn)).copied()) }
        });
        let rows = rows.collect();
        folders.push(Results { config, rows }.write(to)?);
    }
    if folders.is_empty() {
        return Err(Error::file(from, "holds no answers to export"));
    }
    Ok(folders)
}

fn row(record: &Record, asked: Option<&Asked>) -> Row {
    let mut columns = asked.map(|asked| asked.columns.clone()).unwrap_or_default();
    columns.entry("answer").or_insert_with(|| python::cell(&record.answers).into());
    columns.entry("task").or_insert_with(|| record.task.clone().into());
    Row { columns, prediction: record.prediction.clone(), ratio: None, metric: record.metric.clone() }
}

/// The configuration that would be kvpress's, as far as there is one. The ratio is that asked for, or where the press
/// decides, the one that came of it.
fn config(run: &Run, session: &Value, names: &Names, naming: &Naming) -> Config {
    let plan = &run.plan;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let stem = |value: &Value| Path::new(value.as_str()?).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let dataset =
        naming.dataset.clone().or_else(|| stem(&plan["task"]["file"])).or_else(|| text(&plan["task"]["name"]));
    let name = names.of(session).map(str::to_owned).or_else(|| text(&session["label"])).unwrap_or_default();
    let visible = plan["task"]["question"] == "visible";
    let mut config = Map::new();
    let entries = [
        ("dataset", json!(dataset)),
        ("data_dir", json!(naming.data_dir)),
        ("model", plan["model"]["path"].clone()),
        ("device", plan["model"]["device"].clone()),
        // A press of a name of our own may hold anything; a folder's name may not.
        ("press_name", name.replace(['/', '\\'], "-").into()),
        ("compression_ratio", session["ratio"].clone()),
        ("key_channel_compression_ratio", Value::Null),
        ("fraction", json!(1.0)),
        ("max_new_tokens", plan["task"]["max_new_tokens"].clone()),
        ("max_context_length", Value::Null),
        ("query_aware", json!(visible)),
        ("needle_depth", Value::Null),
        ("compression_interval", Value::Null),
        ("target_size", Value::Null),
        ("hidden_states_buffer_size", Value::Null),
        ("model_kwargs", json!({ "dtype": plan["model"]["dtype"] })),
        ("press_init_command", session["identity"].clone()),
        ("seed", plan["seed"].clone()),
    ];
    config.extend(entries.map(|(key, value)| (key.to_owned(), value)));
    config.extend(in_config(session));
    if ["threshold", "head_compression_ratio"].iter().any(|key| config.contains_key(*key)) {
        config.shift_remove("compression_ratio");
    } else if config["compression_ratio"].is_null() {
        config["compression_ratio"] = json!(mean_achieved(run, session));
    }
    Config(config)
}

fn mean_achieved(run: &Run, session: &Value) -> f64 {
    let own = run.records.iter().filter(|record| session["label"] == *record.press && record.ratio.is_none());
    let ratios: Vec<f64> = own.map(|record| record.achieved_ratio).collect();
    ratios.iter().sum::<f64>() / ratios.len().max(1) as f64
}
