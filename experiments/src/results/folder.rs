//! What a run leaves behind: one JSON line per answer, written as soon as it is known.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use pressroom::pipeline::{Regime, StopReason};
use pressroom::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::task::{Facets, Metric};

/// One answer, or the error in its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Where the sample stands within its task.
    pub facets: Facets,
    /// Why generation ended; absent for an error.
    pub stop_reason: Option<StopReason>,
    /// Tokens of the context.
    pub context_tokens: usize,
    /// The fraction of the KV pairs that was removed, over all layers and heads.
    pub achieved_ratio: f64,
    /// Allocated bytes of the compressed cache, before the question.
    pub cache_bytes: u64,
    /// Bytes that the context takes uncompressed.
    pub uncompressed_bytes: u64,
    /// Seconds of the prefill that served all presses of the sample.
    pub prefill_s: f64,
    /// Seconds of question and generation.
    pub decode_s: f64,
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

/// The folder of a run: `plan.json` and `answers.jsonl`.
pub struct RunFolder {
    path: PathBuf,
    answers: BufWriter<File>,
    finished: Vec<Record>,
}

impl RunFolder {
    /// Opens or makes a run folder. What an interrupted run of the same plan finished is read back; half a line at
    /// the end, which an interruption can leave, is dropped.
    ///
    /// # Errors
    /// The folder holds another plan's results, or cannot be written.
    pub fn open(path: &Path, plan: &str) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(Error::io(path))?;
        let plan_path = path.join("plan.json");
        match std::fs::read_to_string(&plan_path) {
            Ok(stored) if stored == plan => {}
            Ok(_) => {
                return Err(Error::file(
                    path,
                    "holds results of another plan (its plan.json differs); choose another [run] output or remove the folder",
                ));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => write_whole(&plan_path, plan)?,
            Err(error) => return Err(Error::io(&plan_path)(error)),
        }
        let answers_path = path.join("answers.jsonl");
        let finished = recover(&answers_path)?;
        let file =
            OpenOptions::new().create(true).append(true).open(&answers_path).map_err(Error::io(&answers_path))?;
        Ok(Self { path: path.to_owned(), answers: BufWriter::new(file), finished })
    }

    /// Answers of earlier runs of this plan.
    pub fn finished(&self) -> &[Record] {
        &self.finished
    }

    /// Keys of the answers that need not be computed again: those without an error.
    pub fn finished_keys(&self) -> HashSet<Key> {
        self.finished.iter().map(Record::key).collect()
    }

    /// Appends an answer and hands it to the operating system.
    ///
    /// # Errors
    /// The disk is full or the file cannot be written; what was written before stays.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        let path = self.path.join("answers.jsonl");
        let mut line = serde_json::to_string(record).map_err(|error| Error::file(&path, error.to_string()))?;
        line.push('\n');
        let written = self.answers.write_all(line.as_bytes()).and_then(|()| self.answers.flush());
        written.map_err(|error| {
            Error::file(
                &path,
                format!("{error}; the answers written so far are kept, make room and run the same command again"),
            )
        })
    }
}

/// Complete, error-free records of a file that an interruption may have cut; the file is cut back to them.
fn recover(path: &Path) -> Result<Vec<Record>> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Ok(Vec::new()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(path)(error)),
    }
    let text = std::fs::read(path).map_err(Error::io(path))?;
    let (mut records, mut kept) = (Vec::new(), String::new());
    for line in text.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        let record = serde_json::from_slice::<Record>(line).ok().filter(|record| record.error.is_none());
        // The line itself is kept, not what it would be written as now.
        if let (Some(record), Ok(line)) = (record, std::str::from_utf8(line)) {
            records.push(record);
            kept += line;
        }
    }
    if kept.as_bytes() != text {
        write_whole(path, &kept)?;
    }
    Ok(records)
}

/// Writes a file beside its place and moves it there, so that it is never half there.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text).map_err(Error::io(&partial))?;
    std::fs::rename(&partial, path).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(index: usize) -> Record {
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
            facets: Facets::from([("depth".into(), 1.0 / 3.0)]),
            stop_reason: Some(StopReason::Eos),
            context_tokens: 10,
            achieved_ratio: 0.5,
            cache_bytes: 5,
            uncompressed_bytes: 10,
            prefill_s: 0.1,
            decode_s: 0.2,
            error: None,
        }
    }

    #[test]
    fn a_run_cut_at_any_byte_keeps_every_whole_answer() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = RunFolder::open(folder.path(), "{}").unwrap();
        run.append(&record(0)).unwrap();
        run.append(&record(1)).unwrap();
        let path = folder.path().join("answers.jsonl");
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut run = RunFolder::open(folder.path(), "{}").unwrap();
            let expected = usize::from(cut >= first) + usize::from(cut >= whole.len());
            assert_eq!(run.finished().len(), expected, "cut at {cut}");
            run.append(&record(7)).unwrap();
            assert_eq!(RunFolder::open(folder.path(), "{}").unwrap().finished().len(), expected + 1, "cut at {cut}");
        }
    }

    #[test]
    fn numbers_come_back_with_all_their_bits() {
        let folder = tempfile::tempdir().unwrap();
        // Ratios that a short decimal does not say exactly, and the neighbours of one.
        let mut ratios = vec![1.0 / 3.0, 0.1 + 0.2, 0.7, f64::MIN_POSITIVE, 1.0 - f64::EPSILON, 5e-324];
        ratios.extend((0..2000u64).map(|step| f64::from_bits(0.9f64.to_bits() + step * 7_919)));
        let mut run = RunFolder::open(folder.path(), "{}").unwrap();
        for (index, &ratio) in ratios.iter().enumerate() {
            run.append(&Record { ratio: Some(ratio), prefill_s: 1.0 + ratio, ..record(index) }).unwrap();
        }
        let read = RunFolder::open(folder.path(), "{}").unwrap();
        for (index, (record, ratio)) in read.finished().iter().zip(&ratios).enumerate() {
            assert_eq!(record.key(), ("knorm".into(), Some(ratio.to_bits()), index, 0));
            assert_eq!(record.prefill_s.to_bits(), (1.0 + ratio).to_bits());
        }
        assert_eq!(read.finished().len(), ratios.len());
    }

    #[test]
    fn another_plan_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        RunFolder::open(folder.path(), "{}").unwrap();
        let error = RunFolder::open(folder.path(), "{\"a\": 1}").err().unwrap().to_string();
        assert!(error.contains("another plan"), "{error}");
    }

    #[test]
    fn failed_answers_are_computed_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = RunFolder::open(folder.path(), "{}").unwrap();
        run.append(&Record { error: Some("too short".into()), ..record(0) }).unwrap();
        assert!(RunFolder::open(folder.path(), "{}").unwrap().finished().is_empty());
    }

    #[test]
    fn a_full_disk_is_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.path().join("answers.jsonl")).unwrap();
        let error = RunFolder::open(folder.path(), "{}").unwrap().append(&record(0)).unwrap_err().to_string();
        assert!(error.contains("No space left") && error.contains("run the same command again"), "{error}");
    }
}
