//! One press at one ratio.

use std::collections::BTreeMap;

use pressroom::pipeline::StopReason;

use super::Run;
use super::comparison::{is_baseline, positions};
use crate::results::Record;
use crate::statistics::{Estimate, mean};

/// A press at a ratio, as results name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Label of the press.
    pub press: String,
    /// Bits of the ratio asked for; absent where the budget is the press's own.
    pub ratio: Option<u64>,
}

impl Cell {
    /// The cell of an answer.
    pub fn of(record: &Record) -> Self {
        Self { press: record.press.clone(), ratio: record.ratio.map(f64::to_bits) }
    }

    /// By ratio, budgets of the presses' own last.
    pub(super) fn sort_ratio(&self) -> f64 {
        self.ratio.map_or(1.0, f64::from_bits)
    }
}

/// What tells one sample from another, across runs: the digest of the run's samples and the index.
pub type SampleId = (String, usize);

/// What a press at a ratio did.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which press at which ratio.
    pub cell: Cell,
    /// Mean score with its interval; absent where every answer failed.
    pub estimate: Option<Estimate>,
    /// Difference to the uncompressed run on the same samples.
    pub difference: Option<Estimate>,
    /// Whether that difference is more than chance, all rows of the table accounted for.
    pub differs: bool,
    /// Rank among the presses at this ratio; unresolved ones share it.
    pub rank: Option<usize>,
    /// Score of each sample, the mean over its questions.
    pub scores: BTreeMap<SampleId, f64>,
    /// Mean score of the strict reading, without credit for rambling, where tasks have one.
    pub strict: Option<f64>,
    /// Mean divergence to the uncompressed model along continuations, where tasks have them.
    pub kl: Option<f64>,
    /// Mean score of each task.
    pub by_task: BTreeMap<String, f64>,
    /// Mean score by length (tokens) and depth (tenths) of what is asked for, where tasks tell.
    pub by_place: BTreeMap<(u64, u64), (f64, usize)>,
    /// Means over the answers.
    pub means: Means,
    /// Tokens of the shortest and of the longest context.
    pub context_tokens: Option<(usize, usize)>,
    /// Answers to contexts that lost tokens because the model has no more positions.
    pub truncated: usize,
    /// Answers that the limit ended.
    pub cut_off: usize,
    /// Answers that there should be, and errors in the place of some.
    pub answers: usize,
    /// Answers that failed.
    pub errors: usize,
    /// Where later tokens stand.
    pub positions: Option<String>,
}

/// Means over the answers of a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Means {
    /// The fraction of the KV pairs that was removed.
    pub achieved_ratio: f64,
    /// Bytes of the compressed cache.
    pub cache_bytes: f64,
    /// Bytes of the context uncompressed.
    pub uncompressed_bytes: f64,
    /// Seconds of the shared prefill.
    pub prefill_s: f64,
    /// Seconds of an answer.
    pub decode_s: f64,
    /// Tokens in a second of the answers.
    pub tokens_per_s: f64,
}

impl Row {
    pub(super) fn new(cell: Cell, records: &[(&Run, &Record)], seed: u64) -> Self {
        let answered: Vec<(&Run, &Record)> =
            records.iter().copied().filter(|(_, record)| record.error.is_none()).collect();
        let mut scores: BTreeMap<SampleId, Vec<f64>> = BTreeMap::new();
        let mut by_task: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let mut by_place: BTreeMap<(u64, u64), Vec<f64>> = BTreeMap::new();
        for (run, record) in &answered {
            let samples = run.text(&["samples_sha256"]).unwrap_or_default().to_owned();
            scores.entry((samples, record.index)).or_default().push(record.score);
            by_task.entry(record.task.clone()).or_default().push(record.score);
            if let Some(place) = place(record) {
                by_place.entry(place).or_default().push(record.score);
            }
        }
        let average = |list: &Vec<f64>| list.iter().sum::<f64>() / list.len() as f64;
        let scores: BTreeMap<SampleId, f64> = scores.iter().map(|(id, list)| (id.clone(), average(list))).collect();
        let all: Vec<f64> = scores.values().copied().collect();
        let measured = |name: &str| {
            let values: Vec<f64> =
                answered.iter().filter_map(|(_, record)| record.measures.get(name).copied()).collect();
            (!values.is_empty()).then(|| average(&values))
        };
        let lengths = answered.iter().map(|(_, record)| record.context_tokens);
        Self {
            estimate: mean(&all, seed),
            strict: measured("strict"),
            kl: measured("kl"),
            difference: None,
            differs: false,
            rank: None,
            by_task: by_task.iter().map(|(task, list)| (task.clone(), average(list))).collect(),
            by_place: by_place.iter().map(|(place, list)| (*place, (average(list), list.len()))).collect(),
            means: Means::of(&answered),
            context_tokens: lengths.clone().min().zip(lengths.max()),
            truncated: answered.iter().filter(|(_, record)| record.truncated_tokens > 0).count(),
            cut_off: answered.iter().filter(|(_, record)| record.stop_reason == Some(StopReason::Length)).count(),
            answers: records.len(),
            errors: records.len() - answered.len(),
            positions: records.first().and_then(|(run, _)| positions(run, &cell)),
            scores,
            cell,
        }
    }

    /// Whether nothing is compressed.
    pub fn is_baseline(&self) -> bool {
        is_baseline(&self.cell.press)
    }

    /// The ratio asked for.
    pub fn ratio(&self) -> Option<f64> {
        self.cell.ratio.map(f64::from_bits)
    }

    /// Mean score; 0 where every answer failed.
    pub fn accuracy(&self) -> f64 {
        self.estimate.map_or(0.0, |estimate| estimate.mean)
    }

    /// The task with the lowest mean, where there are several.
    pub fn worst_task(&self) -> Option<(&str, f64)> {
        let worst = self.by_task.iter().min_by(|a, b| a.1.total_cmp(b.1)).filter(|_| self.by_task.len() > 1)?;
        Some((worst.0, *worst.1))
    }

    /// Whether more or less was removed than asked for, so that the budget is not that of its neighbours.
    pub fn off_budget(&self) -> bool {
        self.ratio().is_some_and(|asked| (asked - self.means.achieved_ratio).abs() > 0.02) && self.errors < self.answers
    }
}

impl Means {
    fn of(answered: &[(&Run, &Record)]) -> Self {
        if answered.is_empty() {
            return Self::default();
        }
        let mean = |value: fn(&Record) -> f64| {
            answered.iter().map(|(_, record)| value(record)).sum::<f64>() / answered.len() as f64
        };
        let (tokens, decode_s) = (mean(|record| record.token_ids.len() as f64), mean(|record| record.decode_s));
        Self {
            achieved_ratio: mean(|record| record.achieved_ratio),
            cache_bytes: mean(|record| record.cache_bytes as f64),
            uncompressed_bytes: mean(|record| record.uncompressed_bytes as f64),
            prefill_s: mean(|record| record.prefill_s),
            decode_s,
            tokens_per_s: tokens / decode_s.max(f64::MIN_POSITIVE),
        }
    }
}

/// Length and depth of what is asked for, where the task tells both.
fn place(record: &Record) -> Option<(u64, u64)> {
    let length = record.facets.get("length").copied().unwrap_or(record.context_tokens as f64);
    let depth = record.facets.get("depth")?;
    Some((length as u64, (depth * 10.0).floor().clamp(0.0, 9.0) as u64))
}
