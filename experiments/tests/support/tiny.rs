//! An experiment with a tiny model.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::letters;

/// A run of a tiny model: its folder, and its file.
pub struct Tiny {
    folder: tempfile::TempDir,
}

/// The answers of a journal by what they answer, without their times.
pub type Answers = BTreeMap<String, Value>;

impl Tiny {
    /// Rows about a lighthouse, through presses of every kind at some ratios.
    pub fn new(rows: &[Value]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        letters(&folder.path().join("model"));
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(folder.path().join("rows.jsonl"), lines).unwrap();
        let tiny = Self { folder };
        let presses = [
            "name = 'knorm'",
            "name = 'random'",
            "name = 'snapkv'\nwindow_size = 4",
            "name = 'adakv'\npress = { name = 'expected_attention', n_future_positions = 4 }",
            "name = 'kvzip'",
            "name = 'key_rerotation'\npress = { name = 'knorm' }",
        ];
        let presses: String = presses.iter().map(|press| format!("[[press]]\n{press}\n")).collect();
        let toml = format!(
            "[model]\npath = {:?}\ndtype = 'f32'\n[task]\nfile = {:?}\nmax_new_tokens = 6\n{presses}\
             [sweep]\ncompression_ratio = [0.25, 0.5, 0.75]\n[run]\noutput = {:?}\n",
            tiny.at("model"),
            tiny.at("rows.jsonl"),
            tiny.at("out"),
        );
        std::fs::write(tiny.at("run.toml"), toml).unwrap();
        tiny
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, output: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pressroom"));
        command.arg("run").arg(self.at("run.toml")).args(["--set", &format!("run.output={:?}", self.at(output))]);
        command.args(more).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// What a run said.
    pub fn run(&self, output: &str, more: &[&str]) -> String {
        let done = self.command(output, more).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{said}");
        said
    }

    /// The whole lines of a journal; a key that is there twice fails.
    pub fn answers(&self, output: &str) -> Answers {
        let journal = std::fs::read(self.at(output).join("answers.jsonl")).unwrap_or_default();
        let mut answers = Answers::new();
        for line in journal.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            let mut record: Value = serde_json::from_slice(line).unwrap();
            let fields = record.as_object_mut().unwrap();
            fields.retain(|name, _| name != "check" && !name.ends_with("_s"));
            let key = ["press", "ratio", "index", "turn"].map(|name| fields[name].to_string()).join(" ");
            assert!(answers.insert(key.clone(), record).is_none(), "{key} is there twice");
        }
        answers
    }
}

pub fn row(text: &str, question: &str) -> Value {
    json!({"context": text, "question": question, "answer": ["X"]})
}

pub fn lighthouses(count: usize) -> Vec<Value> {
    (0..count).map(|index| row(&"WHO KEEPS THE LIGHTHOUSE ".repeat(2 + index % 3), &format!("WHO {index}?"))).collect()
}
