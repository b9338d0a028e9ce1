//! The answers as the page's script reads them: short, and within the page's size.

use std::collections::BTreeMap;

use pressroom::pipeline::StopReason;
use serde_json::{Value, json};

use crate::report::Run;

/// Bytes that predictions may take together.
const PREDICTIONS: usize = 700_000;
/// Letters of a prediction, if there are few answers.
const LONGEST: usize = 400;

/// `{samples, presses, answers}`: samples are `[run, index, turn, task, visible, right answers]`, presses
/// `[label, ratio]`, answers `[sample, press, score, cut off, prediction, error]`. No `<` is left in it.
pub fn json(runs: &[Run]) -> String {
    let count = runs.iter().map(|run| run.records.len()).sum::<usize>().max(1);
    let longest = (PREDICTIONS / count).clamp(16, LONGEST);
    let cut = |text: &str| match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    let (mut samples, mut sample_ids) = (Vec::new(), BTreeMap::new());
    let (mut presses, mut press_ids) = (Vec::new(), BTreeMap::new());
    let mut answers = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        for record in &run.records {
            let sample = *sample_ids.entry((number, record.index, record.turn)).or_insert_with(|| {
                let right: Vec<String> = record.answers.iter().map(|answer| cut(answer)).collect();
                samples.push(json!([number, record.index, record.turn, record.task, record.question, right]));
                samples.len() - 1
            });
            let press = *press_ids.entry((&record.press, record.ratio.map(f64::to_bits))).or_insert_with(|| {
                presses.push(json!([record.press, record.ratio]));
                presses.len() - 1
            });
            let cut_off = i32::from(record.stop_reason == Some(StopReason::Length));
            let score = (record.score * 1000.0).round() / 1000.0;
            let mut answer =
                vec![json!(sample), json!(press), json!(score), json!(cut_off), json!(cut(&record.prediction))];
            answer.extend(record.error.as_deref().map(|error| Value::String(cut(error))));
            answers.push(Value::Array(answer));
        }
    }
    let all = json!({ "samples": samples, "presses": presses, "answers": answers });
    // Within a script element only `<` can end it.
    all.to_string().replace('<', "\\u003c")
}
