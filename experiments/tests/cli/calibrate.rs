//! Side data of presses, made from texts.

use std::path::Path;

use pressroom::model::models_home;

use crate::support::{golden, pressroom_with, refused, refused_with, stdout};
use crate::{NEEDLE, context};

#[test]
fn calibrated_side_data_is_found_by_the_press_without_being_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = context(folder.path(), &NEEDLE.repeat(6));
    let home = folder.path().join("home");
    let model = models_home().join("smollm2-135m-instruct");
    let model = model.to_str().unwrap();
    let asks =
        ["ask", "--press", "qfilter", "--ratio", "0.3", "--context", &text, "--question", "Why?", "--model", model];
    let home: &[(&str, &Path)] = &[("PRESSROOM_HOME", &home)];
    refused_with(home, &asks, &["nothing was calibrated", "pressroom calibrate qfilter", "--text FILE"]);
    let made = pressroom_with(home, &["calibrate", "qfilter", "--model", model, "--text", &text, "--tokens", "64"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(stdout(&made).contains("side-data/qfilter/smollm2-135m-instruct/model.safetensors"), "{}", stdout(&made));
    let answered = pressroom_with(home, &[&asks[..], &["--json", "--max-new-tokens", "2"]].concat());
    assert!(answered.status.success(), "{}", String::from_utf8_lossy(&answered.stderr));
}

#[test]
fn few_heads_fetch_the_number_of_a_needle() {
    let folder = tempfile::tempdir().unwrap();
    let text = context(folder.path(), &NEEDLE.repeat(12));
    let model = models_home().join("smollm2-135m-instruct");
    let made = pressroom_with(
        &[("PRESSROOM_HOME", folder.path())],
        &[
            "calibrate",
            "headkv",
            "--model",
            model.to_str().unwrap(),
            "--text",
            &text,
            "--tokens",
            "150",
            "--samples",
            "3",
        ],
    );
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let scores = std::fs::read_to_string(stdout(&made).trim()).unwrap();
    let scores: std::collections::BTreeMap<String, Vec<f64>> = serde_json::from_str(&scores).unwrap();
    assert_eq!(scores.len(), 30 * 9);
    let texts = scores["0-0"].len();
    assert!(texts > 1 && scores.values().all(|scores| scores.len() == texts));
    assert!(scores.values().flatten().all(|score| (0.0..=1.0).contains(score)));
    let mut means: Vec<f64> = scores.values().map(|scores| scores.iter().sum::<f64>() / texts as f64).collect();
    means.sort_by(f64::total_cmp);
    assert!(means[269] > 0.4 && means[135] < 0.05, "best {}, median {}", means[269], means[135]);
}

#[test]
fn what_cannot_be_calibrated_is_refused() {
    let text = golden("README.md");
    let calibrate = |press: &str, file: &str| ["calibrate", press, "--text", file].map(str::to_owned);
    let cases = [
        (calibrate("knorm", text.to_str().unwrap()), "`knorm` cannot be calibrated"),
        (calibrate("qfilters", text.to_str().unwrap()), "did you mean `qfilter`?"),
        (calibrate("qfilter", "/no/such/file"), "/no/such/file"),
    ];
    for (args, expected) in cases {
        refused(&args.each_ref().map(String::as_str), &[expected]);
    }
}
