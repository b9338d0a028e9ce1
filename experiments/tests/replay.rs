//! What a run did not ask for or store, seen all the same: selections and answers of replays are those of real runs.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;

use safetensors::SafeTensors;
use serde_json::Value;
use support::tiny::{Answers, Tiny, lighthouses};
use support::{pressroom, stdout};

/// One press of each way of deciding: scores, chance, heads beside each other, a whole context, moved keys.
const PRESSES: [&str; 5] = ["knorm", "random", "adakv(expected_attention)", "kvzip", "key_rerotation(knorm)"];

/// Shows a press; gives what that printed and what it said.
fn show(tiny: &Tiny, run: &str, more: &[&str]) -> (String, String) {
    let run = tiny.at(run).display().to_string();
    let output = pressroom(&[&["show", &run], more].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (if output.status.success() { stdout(&output) } else { String::new() }, said)
}

/// Bits of what a press kept of a sample, from the files of a run folder.
fn kept(run: &Path, sample: usize, press: &str, ratio: f64) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(run.join("selections")).unwrap().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(&format!("{sample:05}-")) {
            continue;
        }
        let bytes = std::fs::read(entry.path()).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let header: Value = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["pressroom"]).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        for (index, session) in header["sessions"].as_array().unwrap().iter().enumerate() {
            if *session == serde_json::json!([press, ratio]) {
                found.push(tensors.tensor(&format!("kept.{index}")).unwrap().data().to_vec());
            }
        }
    }
    found
}

/// What the replays of a run hold: bits, and answers to the sample's questions.
fn replayed(tiny: &Tiny, run: &str, sample: usize, press: &str, ratio: f64) -> (Vec<Vec<u8>>, Answers) {
    let (mut bits, mut answers) = (Vec::new(), Answers::new());
    for entry in std::fs::read_dir(tiny.at(run).join("replays")).unwrap().flatten() {
        bits.extend(kept(&entry.path(), sample, press, ratio));
        let own = tiny.answers(&format!("{run}/replays/{}", entry.file_name().to_string_lossy()));
        answers.extend(own.into_iter().filter(|(key, _)| key.starts_with(&format!("{press:?} {ratio:?} "))));
    }
    (bits, answers)
}

fn of(answers: &Answers, sample: usize, press: &str, ratio: f64) -> Answers {
    let own = |key: &str| key.starts_with(&format!("{press:?} {ratio:?} {sample} "));
    answers.iter().filter(|(key, _)| own(key)).map(|(key, record)| (key.clone(), record.clone())).collect()
}

#[test]
fn a_replay_is_what_a_run_at_that_ratio_is() {
    let tiny = Tiny::new(&lighthouses(3));
    tiny.run("run", &["--set", "run.selections=true"]);
    tiny.run("bare", &[]);
    tiny.run("real", &["--set", "run.selections=true", "--set", "sweep.compression_ratio=[0.6]"]);
    // At a ratio of the run's own that it stored no selections of, and at one that it did not ask for.
    for (run, real, ratio) in [("bare", "run", 0.5), ("run", "real", 0.6)] {
        let real_answers = tiny.answers(real);
        for press in PRESSES {
            let at = ["1", "--press", press, "--ratio", &ratio.to_string()];
            let (seen, said) = show(&tiny, run, &at);
            assert!(said.contains("sample 1 is prefilled again"), "{said}");
            let (expected, said) = show(&tiny, real, &at);
            assert!(!said.contains("prefilled again"), "{said}");
            assert_eq!(seen, expected);
            let (bits, answers) = replayed(&tiny, run, 1, press, ratio);
            let expected = kept(&tiny.at(real), 1, press, ratio);
            assert!(expected.len() == 1 && bits == expected, "{press} at {ratio} keeps something else");
            let expected = of(&real_answers, 1, press, ratio);
            assert!(expected.len() == 1 && answers == expected, "{answers:?} and {expected:?}");
        }
    }
    // What was replayed once is a run folder, which is read.
    let (again, said) = show(&tiny, "run", &["1", "--press", "knorm", "--ratio", "0.6", "--against", "kvzip"]);
    assert!(again.contains("pairs are kept by both") && !said.contains("prefilled again"), "{said}");
    assert_eq!(kept(&tiny.at("run"), 1, "knorm", 0.6).len(), 0, "the run's own files stay as they are");
}

#[test]
fn what_cannot_be_replayed_says_why() {
    let tiny = Tiny::new(&lighthouses(2));
    let chain = "[[press]]\nlabel = 'both'\nchain = [{ name = 'knorm', compression_ratio = 0.5 }, { name = 'random', compression_ratio = 0.5 }]\n";
    let toml = std::fs::read_to_string(tiny.at("run.toml")).unwrap();
    std::fs::write(tiny.at("run.toml"), toml.replace("[sweep]", &format!("{chain}[sweep]"))).unwrap();
    tiny.run("run", &[]);
    let refused = |run: &str, more: &[&str], expected: &[&str]| {
        let (seen, said) = show(&tiny, run, more);
        assert!(seen.is_empty() && !said.contains("panicked"), "{seen}{said}");
        expected.iter().for_each(|part| assert!(said.contains(part), "{part:?} is not in {said}"));
    };
    refused("run", &["0", "--press", "both", "--ratio", "0.6"], &["`both` is a chain"]);
    refused("run", &["0", "--press", "knorm", "--ratio", "1.5"], &["1.5"]);
    // A chain as the run had it is replayed.
    assert!(show(&tiny, "run", &["0", "--press", "both"]).0.contains("both at 0.75"));
    std::fs::write(tiny.at("rows.jsonl"), "{\"context\": \"A\", \"question\": \"B\", \"answer\": [\"C\"]}\n".repeat(2))
        .unwrap();
    refused("run", &["0", "--press", "knorm", "--ratio", "0.6"], &["has changed", "samples_sha256: "]);
    std::fs::remove_file(tiny.at("run/experiment.toml")).unwrap();
    refused("run", &["0", "--press", "knorm", "--ratio", "0.6"], &["cannot be replayed", "holds no experiment.toml"]);
}
