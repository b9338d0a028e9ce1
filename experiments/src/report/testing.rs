//! Runs made up for tests.

use std::collections::{BTreeMap, BTreeSet};

use pressroom::pipeline::{Regime, StopReason};
use serde_json::json;

use super::Run;
use crate::results::Record;
use crate::task::{Facets, Metric};

/// A run of about so many answers: four presses at five ratios and nothing compressed, with `label` as the last press and
/// in answers and predictions.
pub fn run(answers: usize, label: &str) -> Run {
    let presses = ["adakv(expected_attention)", "knorm", "a press with a rather long label", label];
    let ratios = [0.25, 0.5, 0.625, 0.75, 0.9];
    let mut cells = vec![("none", 0.0)];
    cells.extend(presses.into_iter().flat_map(|press| ratios.map(|ratio| (press, ratio))));
    let samples = answers.div_ceil(cells.len());
    let records = (0..samples).flat_map(|index| {
        let cells = cells.clone();
        cells.into_iter().enumerate().map(move |(place, (press, ratio))| record(press, ratio, index, place, label))
    });
    let sessions: Vec<_> = cells
        .iter()
        .map(|(press, ratio)| json!({"label": press, "ratio": ratio, "identity": press, "positions": "uncompressed", "stages": [{"name": "knorm"}]}))
        .collect();
    Run {
        path: "runs/made-up".into(),
        plan: json!({"model": {"path": "made-up"}, "dtype": "BFloat16", "samples_sha256": "0", "seed": 42, "sessions": sessions}),
        machine: json!({"threads": 2}),
        answer_prefixes: BTreeSet::from(["Answer:".to_owned()]),
        records: records.collect(),
    }
}

fn record(press: &str, ratio: f64, index: usize, place: usize, label: &str) -> Record {
    // As if by chance, and the same every time.
    let lot = pressroom::random::derive_seed(index as u64, place as u64) % 100;
    let right = lot as f64 >= 90.0 * ratio;
    Record {
        press: press.to_owned(),
        ratio: Some(ratio),
        index,
        turn: 0,
        task: ["needle", "two needles", "arithmetic"][index % 3].to_owned(),
        question: Regime::Hidden,
        prediction: format!("The secret number of the {label} is {}.", if right { 12345 } else { 54321 + lot }),
        token_ids: vec![1, 2, 3],
        answers: vec![format!("12345 {label}")],
        metric: Metric::StringMatch,
        score: f64::from(right),
        measures: BTreeMap::from([("strict".into(), 0.5 * f64::from(right))]),
        facets: Facets::from([
            ("depth".into(), index as f64 / 10.0 % 1.0),
            ("length".into(), [2048.0, 4096.0][index % 2]),
        ]),
        stop_reason: Some(if lot < 5 { StopReason::Length } else { StopReason::Eos }),
        context_tokens: 2048,
        truncated_tokens: 0,
        achieved_ratio: ratio,
        cache_bytes: (48e6 * (1.0 - ratio)) as u64,
        uncompressed_bytes: 48_000_000,
        prefill_s: 0.9,
        decode_s: 0.2,
        elapsed_s: 0.4,
        error: None,
    }
}
