//! What a run found, in numbers: one entry for each press and ratio.

use std::collections::BTreeMap;

use pressroom::pipeline::{Regime, StopReason};
use pressroom::plan::PositionRule;
use serde::Serialize;

use super::Record;

/// The means of a run; `metrics.json` of its folder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metrics {
    /// Whether presses saw the question.
    pub question: Regime,
    /// SHA-256 of the chat template, if one was used.
    pub template_sha256: Option<String>,
    /// In the order of the plan.
    pub sessions: Vec<SessionMetrics>,
}

/// Means over the answers of one press at one ratio.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SessionMetrics {
    /// Label of the press.
    pub press: String,
    /// Compression ratio asked for.
    pub ratio: Option<f64>,
    /// Where later tokens stand.
    pub positions: PositionRule,
    /// Answers without an error.
    pub answers: usize,
    /// Answers that an error stands for.
    pub errors: usize,
    /// Mean score.
    pub score: Option<f64>,
    /// Mean of everything else that was measured (`strict`; of continuations `nll`, `kl`, `agreement`).
    pub measures: BTreeMap<String, f64>,
    /// Mean score of each task.
    pub by_task: BTreeMap<String, f64>,
    /// The task with the lowest mean score.
    pub worst_task: Option<String>,
    /// Mean fraction of the KV pairs that was removed.
    pub achieved_ratio: Option<f64>,
    /// Mean bytes of the compressed cache.
    pub cache_bytes: Option<f64>,
    /// Mean bytes of the context uncompressed.
    pub uncompressed_bytes: Option<f64>,
    /// Answers that the model ended itself.
    pub stopped_eos: usize,
    /// Answers that the limit ended.
    pub stopped_length: usize,
    /// Tokens generated in a second of the answers' own shares.
    pub decode_tokens_per_s: Option<f64>,
    /// Mean seconds of a prefill that served all presses of a sample.
    pub prefill_s: Option<f64>,
}

impl SessionMetrics {
    /// Of the records of one session.
    pub fn of(press: &str, ratio: Option<f64>, positions: PositionRule, records: &[Record]) -> Self {
        let own = records.iter().filter(|record| record.press == press && record.ratio == ratio);
        let (answered, failed): (Vec<&Record>, Vec<&Record>) = own.partition(|record| record.error.is_none());
        let mean = |value: fn(&Record) -> f64| mean(answered.iter().map(|record| value(record)));
        let by_task = means(answered.iter().map(|record| (record.task.as_str(), record.score)));
        let measured = answered.iter().flat_map(|record| &record.measures);
        let worst = by_task.iter().min_by(|first, second| first.1.total_cmp(second.1));
        let stopped = |reason| answered.iter().filter(|record| record.stop_reason == Some(reason)).count();
        let tokens: usize = answered.iter().map(|record| record.token_ids.len()).sum();
        let seconds: f64 = answered.iter().map(|record| record.decode_s).sum();
        Self {
            press: press.to_owned(),
            ratio,
            positions,
            answers: answered.len(),
            errors: failed.len(),
            score: mean(|record| record.score),
            measures: means(measured.map(|(name, value)| (name.as_str(), *value))),
            worst_task: worst.map(|(task, _)| task.clone()),
            by_task,
            achieved_ratio: mean(|record| record.achieved_ratio),
            cache_bytes: mean(|record| record.cache_bytes as f64),
            uncompressed_bytes: mean(|record| record.uncompressed_bytes as f64),
            stopped_eos: stopped(StopReason::Eos),
            stopped_length: stopped(StopReason::Length),
            decode_tokens_per_s: (seconds > 0.0).then(|| tokens as f64 / seconds),
            prefill_s: mean(|record| record.prefill_s),
        }
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let count = values.len();
    (count > 0).then(|| values.sum::<f64>() / count as f64)
}

/// Means of values by their names.
fn means<'a>(values: impl Iterator<Item = (&'a str, f64)>) -> BTreeMap<String, f64> {
    let mut by_name: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, value) in values {
        by_name.entry(name).or_default().push(value);
    }
    by_name.into_iter().filter_map(|(name, values)| Some((name.to_owned(), mean(values.into_iter())?))).collect()
}
