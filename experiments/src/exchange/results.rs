//! One results folder of kvpress.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pressroom::{Error, Result};
use serde_json::{Map, Value, json};

use super::config::Config;
use crate::python;
use crate::task::Metric;

/// Names of the files.
const PREDICTIONS: &str = "predictions.csv";
const METRICS: &str = "metrics.json";
const CONFIG: &str = "config.yaml";

/// Answers of one press at one ratio.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// How they came about.
    pub config: Config,
    /// In the order of the data set.
    pub rows: Vec<Row>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Cells by their columns, all but the two below.
    pub columns: Map<String, Value>,
    /// The generated text.
    pub prediction: String,
    /// The fraction removed, where it is told.
    pub ratio: Option<f64>,
    /// What scores the prediction.
    pub metric: Metric,
}

/// Columns that are not the question's own.
const PREDICTION: &str = "predicted_answer";
const RATIO: &str = "compression_ratio";

impl Row {
    /// The cell of a column; empty where there is none.
    pub fn cell(&self, column: &str) -> &str {
        self.columns.get(column).and_then(Value::as_str).unwrap_or_default()
    }

    /// The answers that are right.
    pub fn answers(&self) -> Vec<String> {
        python::texts(self.cell("answer"))
    }

    /// Score between 0 and 1. Control characters, line feeds too, are no part of what is scored.
    pub fn score(&self) -> f64 {
        let printed: String = self.prediction.trim().chars().filter(|c| u32::from(*c) > 0x1f).collect();
        self.metric.score(printed.trim(), &self.answers())
    }
}

impl Results {
    /// Folders with results in `folder`, itself included. kvpress numbers repetitions within the first one's folder.
    ///
    /// # Errors
    /// There are none, or a folder cannot be read.
    pub fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut open = vec![folder.to_owned()];
        while let Some(folder) = open.pop() {
            if folder.join(PREDICTIONS).is_file() {
                found.push(folder.clone());
            }
            for entry in std::fs::read_dir(&folder).map_err(Error::io(&folder))? {
                let path = entry.map_err(Error::io(&folder))?.path();
                if path.is_dir() && !path.is_symlink() {
                    open.push(path);
                }
            }
        }
        if found.is_empty() {
            return Err(Error::file(folder, format!("holds no results: no {PREDICTIONS} in it or in a folder of it")));
        }
        found.sort();
        Ok(found)
    }

    /// Reads a results folder.
    ///
    /// # Errors
    /// A file is missing or damaged (with the line), or the data set's metric is not among those known here.
    pub fn read(folder: &Path) -> Result<Self> {
        let config = Config::read(&folder.join(CONFIG))?;
        let path = folder.join(PREDICTIONS);
        let blame = |error: csv::Error| Error::file(&path, error.to_string());
        let mut reader = csv::Reader::from_path(&path).map_err(blame)?;
        let header = reader.headers().map_err(blame)?.clone();
        if let Some(missing) =
            ["task", "answer", PREDICTION].into_iter().find(|name| !header.iter().any(|h| h == *name))
        {
            return Err(Error::file(&path, format!("has no column `{missing}`")));
        }
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(blame)?;
            let line = record.position().map_or(0, csv::Position::line);
            let cells = header.iter().zip(&record);
            let mut columns: Map<String, Value> = cells.map(|(name, cell)| (name.to_owned(), cell.into())).collect();
            let mut take = |name| columns.shift_remove(name).and_then(|cell| Some(cell.as_str()?.to_owned()));
            let prediction = take(PREDICTION).unwrap_or_default();
            let ratio = take(RATIO).filter(|cell| !cell.is_empty()).map(|cell| cell.parse::<f64>());
            let ratio =
                ratio.transpose().map_err(|error| Error::file(&path, format!("line {line}: {RATIO}: {error}")))?;
            let task = columns.get("task").and_then(Value::as_str).unwrap_or_default();
            let metric =
                metric(&config, task).map_err(|problem| Error::file(&path, format!("line {line}: {problem}")))?;
            rows.push(Row { columns, prediction, ratio, metric });
        }
        Ok(Self { config, rows })
    }

    /// Writes the folder of these results into `parent`, under the name that kvpress gives it.
    ///
    /// # Errors
    /// There is such a folder already, or it cannot be written.
    pub fn write(&self, parent: &Path) -> Result<PathBuf> {
        let folder = parent.join(self.config.folder_name());
        std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
        std::fs::create_dir(&folder).map_err(Error::io(&folder))?;
        self.write_predictions(&folder.join(PREDICTIONS))?;
        let path = folder.join(METRICS);
        let metrics = serde_json::to_string_pretty(&self.metrics()).map_err(|e| Error::file(&path, e.to_string()))?;
        std::fs::write(&path, metrics).map_err(Error::io(&path))?;
        self.config.write(&folder.join(CONFIG))?;
        Ok(folder)
    }

    fn write_predictions(&self, path: &Path) -> Result<()> {
        let blame = |error: csv::Error| Error::file(path, error.to_string());
        let mut writer = csv::Writer::from_path(path).map_err(blame)?;
        let own: Vec<&str> =
            self.rows.first().into_iter().flat_map(|row| row.columns.keys().map(String::as_str)).collect();
        let told = self.rows.iter().any(|row| row.ratio.is_some());
        writer.write_record(own.iter().chain(&[PREDICTION]).chain(told.then_some(&RATIO))).map_err(blame)?;
        for row in &self.rows {
            let ratio = told.then(|| row.ratio.map_or_else(String::new, |ratio| format!("{ratio:?}")));
            let cells = own.iter().map(|column| row.cell(column)).chain([row.prediction.as_str()]);
            writer.write_record(cells.chain(ratio.as_deref())).map_err(blame)?;
        }
        writer.flush().map_err(Error::io(path))
    }

    /// What `metrics.json` says: for each task its metric, in per cent of two decimals.
    pub fn metrics(&self) -> Value {
        let mut tasks: BTreeMap<(&str, String), Vec<f64>> = BTreeMap::new();
        for row in &self.rows {
            tasks.entry((row.cell("task"), name(&row.metric))).or_default().push(row.score());
        }
        let mut metrics = Map::new();
        for ((task, metric), scores) in tasks {
            let per_cent = scores.iter().sum::<f64>() / scores.len() as f64 * 100.0;
            // As Python rounds: the decimal text is exact, and ties go to even.
            let rounded = format!("{per_cent:.2}").parse().unwrap_or(per_cent);
            let entry = metrics.entry(task).or_insert_with(|| json!({}));
            entry[metric] = json!(rounded);
        }
        metrics.into()
    }
}

/// What kvpress scores a task with, or why that is not known here.
pub fn metric(config: &Config, task: &str) -> Result<Metric, String> {
    match config.text("dataset").as_deref() {
        Some("ruler") if task.split('_').next() == Some("qa") => Ok(Metric::AnyMatch),
        Some("ruler") => Ok(Metric::StringMatch),
        other => Err(format!("results on {} are not read, only those on ruler", other.unwrap_or("nothing"))),
    }
}

/// What kvpress calls a metric.
fn name(metric: &Metric) -> String {
    match metric {
        Metric::StringMatch | Metric::AnyMatch => "string_match".into(),
        other => serde_json::to_value(other).ok().and_then(|name| Some(name.as_str()?.to_owned())).unwrap_or_default(),
    }
}
