//! Results of kvpress's own evaluation (`tests/golden/results.py`) through the real binary: in, out and the same again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn pressroom(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pressroom")).args(args).output().unwrap()
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/results")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Rows of a table, each by its columns.
fn table(path: &Path) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    reader.deserialize().map(Result::unwrap).collect()
}

/// Names of the results folders in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn kvpresss_results_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for (regime, presses) in [("hidden", 5), ("visible", 1)] {
        let (run, out) = (folder.path().join(format!("{regime}-run")), folder.path().join(regime));
        let import = || pressroom(&["import", text(&golden()), text(&run), "--question", regime]);
        let told = import();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        assert!(String::from_utf8_lossy(&told.stdout).starts_with(&format!("{} answers", 8 * presses)));
        assert!(import().status.success(), "a second import changes nothing");
        let told = pressroom(&["export", "--kvpress", text(&run), text(&out)]);
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        for name in names(&out) {
            let (theirs, ours) = (golden().join(&name), out.join(&name));
            let config = |folder: &Path| -> Value {
                serde_saphyr::from_str(&std::fs::read_to_string(folder.join("config.yaml")).unwrap()).unwrap()
            };
            assert_eq!(config(&ours), config(&theirs), "{name}");
            assert_eq!(json(&ours.join("metrics.json")), json(&theirs.join("metrics.json")), "{name}");
            assert_eq!(table(&ours.join("predictions.csv")), table(&theirs.join("predictions.csv")), "{name}");
            seen.push(name);
        }
    }
    seen.sort();
    assert_eq!(seen, names(&golden()));
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results");
    let run = folder.path().join("run");
    let copy = |from: &str, to: &str, change: (&str, &str, &str)| {
        let (from, to) = (golden().join(from), results.join(to));
        std::fs::create_dir_all(&to).unwrap();
        for file in ["predictions.csv", "metrics.json", "config.yaml"] {
            let content = std::fs::read_to_string(from.join(file)).unwrap();
            let content = if file == change.0 { content.replace(change.1, change.2) } else { content };
            std::fs::write(to.join(file), content).unwrap();
        }
    };
    let names = names(&golden());
    let knorm = names.iter().find(|name| name.contains("__knorm__")).unwrap();
    let refused = |expected: &str| {
        let told = pressroom(&["import", text(&results), text(&run)]);
        let stderr = String::from_utf8_lossy(&told.stderr);
        assert!(!told.status.success() && stderr.contains(expected) && !stderr.contains("panicked"), "{stderr}");
        std::fs::remove_dir_all(&results).unwrap();
        assert!(!run.exists());
    };
    copy(knorm, "a", ("", "", ""));
    copy(knorm, "b", ("", "", ""));
    refused("holds knorm at 0.50 a second time");
    copy(knorm, "a", ("", "", ""));
    copy(knorm, "b", ("config.yaml", "model: HuggingFaceTB", "model: Other"));
    refused("is of another model than");
    copy(knorm, "a", ("", "", ""));
    copy(knorm, "b", ("predictions.csv", "of the quarry?", "of the mill?"));
    refused("asks something else in row 2 than");
    copy(knorm, "a", ("config.yaml", "dataset: ruler", "dataset: loogle"));
    refused("line 2: results on loogle are not read, only those on ruler");
    copy(knorm, "a", ("predictions.csv", "answer,task", "answer,tusk"));
    refused("has no column `task`");
    copy(knorm, "a", ("predictions.csv", "niah_single_1,", "niah_single_1,,"));
    refused("predictions.csv");
    copy(knorm, "a", ("config.yaml", "dataset: ruler", "dataset: [ruler"));
    refused("config.yaml");
    copy(knorm, "a", ("config.yaml", "query_aware: false", "query_aware: true"));
    refused("holds no results whose question is hidden, but 1 others");
    std::fs::create_dir_all(&results).unwrap();
    refused("holds no results");
}

#[test]
fn a_run_of_ours_is_exported_under_kvpresss_names() {
    let folder = tempfile::tempdir().unwrap();
    support::letters(&folder.path().join("model"));
    let row = |index: usize, task: &str| {
        let answers = if task == "qa_1" { "[\"A\", \"ZZZZZZ\"]" } else { "[\"O'Hara\"]" };
        format!(
            "{{\"context\": \"WHO KEEPS THE LIGHTHOUSE {index}\", \"question\": \"WHO?\", \"answer\": {answers}, \
             \"answer_prefix\": \"A\", \"task\": \"{task}\"}}\n"
        )
    };
    let rows: String = (0..4).map(|index| row(index, ["vt", "qa_1"][index % 2])).collect();
    std::fs::write(folder.path().join("rows.jsonl"), rows).unwrap();
    let toml = "[model]\npath = 'model'\ndtype = 'f32'\n[task]\nfile = 'rows.jsonl'\nmax_new_tokens = 4\n\
        [[press]]\nlabel = 'ours'\nname = 'adakv'\npress = { name = 'expected_attention', epsilon = 0.01 }\n\
        compression_ratio = 0.5\n[[press]]\nname = 'h2o'\ncompression_ratio = 0.25\n\
        [[press]]\nname = 'think'\nkey_channel_compression_ratio = 0.5\n[run]\noutput = 'out'\n";
    std::fs::write(folder.path().join("run.toml"), toml).unwrap();
    let here = |args: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_pressroom")).args(args).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    here(&["run", "run.toml"]);
    here(&["export", "--kvpress", "out", "results", "--dataset", "ruler", "--data-dir", "4096"]);
    let results = folder.path().join("results");
    let expected = [
        "ruler__4096__model__expected_attention__0.50",
        "ruler__4096__model__h2o__0.25",
        "ruler__4096__model__no_press__0.00",
        "ruler__4096__model__think__0.00__key_channel_cr0.50",
    ];
    assert_eq!(names(&results), expected);
    let rows = table(&results.join(expected[0]).join("predictions.csv"));
    let cell = |row: usize, column: &str| rows[row][column].as_str();
    assert_eq!((cell(0, "answer"), cell(1, "answer")), ("[\"O'Hara\"]", "['A', 'ZZZZZZ']"));
    assert_eq!((cell(0, "question"), cell(0, "answer_prefix"), cell(0, "max_new_tokens")), ("WHO?", "A", "4"));
    let metrics = json(&results.join(expected[0]).join("metrics.json"));
    assert_eq!(metrics["vt"]["string_match"], 0.0);
    // What was exported can be imported, and is the same when it is exported again.
    here(&["import", "results", "again"]);
    here(&["export", "--kvpress", "again", "second"]);
    for name in expected {
        for file in ["predictions.csv", "metrics.json", "config.yaml"] {
            let read = |at: &str| std::fs::read_to_string(folder.path().join(at).join(name).join(file)).unwrap();
            assert_eq!(read("second"), read("results"), "{name}/{file}");
        }
    }
    here(&["report", "out", "again", "--output", "page"]);
}
