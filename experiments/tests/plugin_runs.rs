//! Plugins in whole runs: in every place where a press can stand, in both phases, isolated and not.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::tiny::{Tiny, lighthouses};
use support::{letters, pressroom, refused};

/// Presses that decide the same: built in, by the SDK, and in C.
const FAMILIES: [&str; 3] = ["", "plugin_", "c_"];

/// Where a press can stand, `KNORM` and `SNAPKV` being those of a family.
const PLACES: [(&str, &str); 10] = [
    ("alone", "name = 'KNORM'"),
    ("per layer", "name = 'SNAPKV'\nwindow_size = 4\ncompression_ratio = { from = 0.2, to = 0.8 }"),
    ("shared", "name = 'adakv'\npress = { name = 'SNAPKV', window_size = 4 }"),
    (
        "in a chain",
        "chain = [{ name = 'KNORM', compression_ratio = 0.3 },\n\
         { name = 'adakv', press = { name = 'SNAPKV', window_size = 4 }, compression_ratio = 0.4 }]",
    ),
    (
        "after a built-in press",
        "chain = [{ name = 'streaming_llm', compression_ratio = 0.2 },\n\
         { name = 'SNAPKV', window_size = 4, compression_ratio = 0.4 }]",
    ),
    (
        "decoding",
        "name = 'decoding'\nbase_press = { name = 'SNAPKV', window_size = 4 }\ncompression_interval = 3\n\
         target_size = 30",
    ),
    (
        "decoding at a ratio",
        "name = 'compression_ratio_decoding'\nbase_press = { name = 'KNORM' }\ntarget_compression_ratio = 0.4\n\
         compression_interval = 2",
    ),
    (
        "both phases",
        "name = 'prefill_decoding'\nprefilling_press = { name = 'SNAPKV', window_size = 4 }\n\
         decoding_press = { name = 'decoding', base_press = { name = 'SNAPKV', window_size = 2 }, \
         compression_interval = 3, target_size = 20 }",
    ),
    (
        "a chain into decoding",
        "chain = [{ name = 'KNORM', compression_ratio = 0.3 },\n\
         { name = 'decoding', base_press = { name = 'adakv', press = { name = 'SNAPKV', window_size = 4 } }, \
         compression_interval = 2, target_size = 16 }]",
    ),
    (
        "below a threshold",
        "name = 'dms'\npress = { name = 'KNORM' }\nthreshold = THRESHOLD\nsliding_window_size = 6\ndecoding = true",
    ),
];

/// Presses that are not built in: what they decide is compared between the two processes.
const OTHERS: [(&str, &str); 5] = [
    ("rkv", "name = 'rkv'"),
    ("ragged", "name = 'entropy_heads'"),
    ("with libtorch", "name = 'hash_evict'"),
    ("with libtorch, shared", "name = 'adakv'\npress = { name = 'hash_evict', window_size = 4 }"),
    (
        "ragged while decoding",
        "name = 'decoding'\nbase_press = { name = 'entropy_heads', window_size = 4 }\ncompression_interval = 3\n\
         target_size = 20",
    ),
];

/// A library that cargo has built beside this test.
fn built(name: &str) -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().join(name)
}

fn twins_in_c(folder: &Path) -> PathBuf {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let library = folder.join("libtwins.so");
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-O2", "-shared", "-fPIC", "-I"]).arg(plugins.join("abi/include"));
    let status = cc.arg(plugins.join("examples/c/twins.c")).arg("-o").arg(&library).arg("-lm").status().unwrap();
    assert!(status.success());
    library
}

/// Answers by place and family, without their times.
type Answers = BTreeMap<(String, String), Vec<Value>>;

/// Runs all places, and gives the answers.
fn run(folder: &Path, model: &str, threshold: f64, isolated: bool) -> Answers {
    let libraries =
        [built("libpressroom_plugin_examples.so"), built("libpressroom_plugin_example_tch.so"), twins_in_c(folder)];
    let plugins = libraries.iter().map(|library| format!("[[plugin]]\npath = {library:?}\nisolated = {isolated}\n"));
    let named = |place: &str, family: &str, press: &str| {
        let press = press.replace("KNORM", &format!("{family}knorm")).replace("SNAPKV", &format!("{family}snapkv"));
        format!("[[press]]\nlabel = '{place}|{family}'\n{}\n", press.replace("THRESHOLD", &threshold.to_string()))
    };
    let twins = PLACES.iter().flat_map(|(place, press)| FAMILIES.map(|family| named(place, family, press)));
    let presses = twins.chain(OTHERS.iter().map(|(place, press)| named(place, "", press)));
    let output = folder.join(format!("out-{isolated}"));
    let toml = format!(
        "[model]\npath = {model:?}\ndtype = 'f32'\n[task]\nfile = {:?}\nmax_new_tokens = 16\n{}{}\
         [sweep]\ncompression_ratio = [0.3, 0.6]\n[run]\noutput = {output:?}\n",
        folder.join("rows.jsonl"),
        plugins.collect::<String>(),
        presses.collect::<String>(),
    );
    let file = folder.join(format!("run-{isolated}.toml"));
    std::fs::write(&file, toml).unwrap();
    let done = pressroom(&["run", &file.display().to_string()]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut answers = Answers::new();
    for line in std::fs::read_to_string(output.join("answers.jsonl")).unwrap().lines() {
        let mut record: Value = serde_json::from_str(line).unwrap();
        let fields = record.as_object_mut().unwrap();
        assert!(fields.get("error").is_none(), "{line}");
        let press = fields["press"].as_str().unwrap().to_owned();
        fields.retain(|name, _| name != "check" && name != "press" && !name.ends_with("_s"));
        let (place, family) = press.split_once('|').unwrap_or((&press, ""));
        answers.entry((place.to_owned(), family.to_owned())).or_default().push(record);
    }
    for records in answers.values_mut() {
        records.sort_by_key(|record| (record["index"].as_u64(), record["ratio"].to_string()));
    }
    answers
}

/// Holds that twins answer as the built-in press and isolated plugins as those of this process, in all places.
fn alike_in_every_place(folder: &Path, model: &str, threshold: f64) {
    let here = run(folder, model, threshold, false);
    for (place, _) in PLACES {
        let of = |family: &str| &here[&(place.to_owned(), family.to_owned())];
        for family in &FAMILIES[1..] {
            assert_eq!(of(family), of(""), "{place}: {family} beside the built-in press");
        }
        let removes = |record: &Value| record["achieved_ratio"].as_f64().unwrap() > 0.0;
        let while_decoding = ["decoding", "decoding at a ratio"].contains(&place);
        assert_eq!(of("").iter().all(removes), !while_decoding, "{place}: {:?}", of(""));
        if while_decoding {
            let full = &here[&("none".to_owned(), String::new())];
            let tokens =
                |records: &[Value]| records.iter().map(|record| record["token_ids"].clone()).collect::<Vec<_>>();
            assert_ne!(tokens(of("")), tokens(full), "{place} changes nothing");
        }
    }
    assert_eq!(here, run(folder, model, threshold, true), "isolated");
}

#[test]
fn a_run_whose_plugin_changed_is_refused() {
    let tiny = Tiny::new(&lighthouses(1));
    let (library, file) = (tiny.at("library.so"), tiny.at("run.toml"));
    std::fs::copy(built("libpressroom_plugin_examples.so"), &library).unwrap();
    let toml = std::fs::read_to_string(&file).unwrap();
    let plugin = format!("[[plugin]]\npath = {library:?}\n[[press]]\nname = 'plugin_knorm'\n");
    std::fs::write(&file, toml + &plugin).unwrap();
    tiny.run("out", &[]);
    let mut bytes = std::fs::read(&library).unwrap();
    bytes.push(0);
    std::fs::write(&library, bytes).unwrap();
    refused(&["run", &file.display().to_string()], &["results of another run", "identity: \"plugin_knorm@", "before"]);
}

#[test]
fn plugins_stand_where_built_in_presses_can() {
    let folder = tempfile::tempdir().unwrap();
    letters(&folder.path().join("model"));
    // Every letter once, in some order.
    let row = |step: usize| {
        let letters: Vec<char> = ('!'..='Y').collect();
        let order = (0..letters.len()).map(|at| letters[at * step % letters.len()]);
        let context: String = order.filter(|letter| !"<>".contains(*letter)).collect();
        format!("{}\n", serde_json::json!({"context": context, "question": "WHO?", "answer": ["X"]}))
    };
    std::fs::write(folder.path().join("rows.jsonl"), row(10) + &row(23)).unwrap();
    alike_in_every_place(folder.path(), &folder.path().join("model").display().to_string(), -2.0);
}

#[test]
fn plugins_stand_where_built_in_presses_can_on_the_real_model() {
    let folder = tempfile::tempdir().unwrap();
    let context = "The bakery opens at six. The password of the lighthouse is marmalade. Ships pass at night, and the \
        keeper sleeps by day. Nobody swims in the harbour in winter, because the water is cold.";
    let question = "\nWhat is the password of the lighthouse?";
    let row = serde_json::json!({"context": context, "question": question, "answer": ["marmalade"]});
    std::fs::write(folder.path().join("rows.jsonl"), format!("{row}\n")).unwrap();
    alike_in_every_place(folder.path(), "smollm2-135m-instruct", -15.0);
}
