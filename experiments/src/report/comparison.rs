//! Presses beside each other under the same conditions.

use std::collections::{BTreeMap, BTreeSet};

use pressroom::plan::BASELINE;
use serde_json::Value;

use super::row::{Cell, Row};
use super::{Conditions, Run};
use crate::results::Record;
use crate::statistics::{ALPHA, difference, holm, shared_ranks, sign_flip, smallest_difference};

/// Seed of all intervals and tests.
const SEED: u64 = 0;

/// A table: presses at ratios, compared on the same samples.
pub struct Comparison {
    /// A name for files and anchors, its own among the tables of a report.
    pub slug: String,
    /// What all of it has in common.
    pub conditions: Conditions,
    /// The uncompressed run first, then by ratio, rank and accuracy.
    pub rows: Vec<Row>,
    /// The tasks, sorted.
    pub tasks: Vec<String>,
    /// Samples that were asked.
    pub samples: usize,
    /// Seeds of the runs.
    pub seeds: BTreeSet<u64>,
    /// What the answers were made to begin with.
    pub answer_prefixes: BTreeSet<String>,
    /// The smallest difference to the uncompressed run that so many samples resolve, between 0 and 1.
    pub resolution: Option<f64>,
}

/// Answers by press and ratio, with the runs that gave them.
type Cells<'a> = BTreeMap<Cell, Vec<(&'a Run, &'a Record)>>;

/// Sorts the answers of runs into tables by their conditions.
pub fn compare(runs: &[Run]) -> Vec<Comparison> {
    let mut sorted: BTreeMap<Conditions, Cells<'_>> = BTreeMap::new();
    for run in runs {
        let conditions = Conditions::of_samples(run);
        for record in &run.records {
            let Some(conditions) = conditions.get(&record.index) else { continue };
            let cells = sorted.entry(conditions.clone()).or_default();
            cells.entry(Cell::of(record)).or_default().push((run, record));
        }
    }
    let mut used: BTreeMap<String, usize> = BTreeMap::new();
    let table = |(conditions, cells): (Conditions, _)| {
        let name = conditions.regime().replace(", ", "-").replace(' ', "-");
        let times = used.entry(name.clone()).and_modify(|times| *times += 1).or_insert(1);
        let slug = if *times > 1 { format!("{name}-{times}") } else { name };
        Comparison::new(slug, conditions, cells)
    };
    sorted.into_iter().map(table).collect()
}

impl Comparison {
    fn new(slug: String, conditions: Conditions, cells: Cells<'_>) -> Self {
        let runs = || cells.values().flatten().map(|(run, _)| *run);
        let seeds = runs().filter_map(|run| run.plan.get("seed")?.as_u64()).collect();
        let answer_prefixes = runs().flat_map(|run| run.answer_prefixes.iter().cloned()).collect();
        let mut rows: Vec<Row> = cells.into_iter().map(|(cell, records)| Row::new(cell, &records, SEED)).collect();
        let tasks: BTreeSet<String> = rows.iter().flat_map(|row| row.by_task.keys().cloned()).collect();
        let samples = rows.iter().map(|row| row.scores.len()).max().unwrap_or(0);
        let resolution = against_baseline(&mut rows);
        rank(&mut rows);
        rows.sort_by(|a, b| {
            let place = |row: &Row| (!row.is_baseline(), row.cell.sort_ratio(), row.rank.unwrap_or(usize::MAX));
            place(a)
                .partial_cmp(&place(b))
                .unwrap_or(std::cmp::Ordering::Equal)
                .then(b.accuracy().total_cmp(&a.accuracy()))
                .then_with(|| a.cell.press.cmp(&b.cell.press))
        });
        Self { slug, conditions, rows, tasks: tasks.into_iter().collect(), samples, seeds, answer_prefixes, resolution }
    }

    /// The uncompressed run.
    pub fn baseline(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.is_baseline())
    }

    /// The rows of each ratio that was asked for, and of budgets of the presses' own; without the uncompressed run.
    pub fn by_ratio(&self) -> Vec<(Option<f64>, Vec<&Row>)> {
        let pressed: Vec<&Row> = self.rows.iter().filter(|row| !row.is_baseline()).collect();
        pressed.chunk_by(|a, b| a.cell.ratio == b.cell.ratio).map(|rows| (rows[0].ratio(), rows.to_vec())).collect()
    }

    /// The labels of the presses, the most accurate first.
    pub fn presses(&self) -> Vec<&str> {
        let mut scores: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| !row.is_baseline()) {
            scores.entry(&row.cell.press).or_default().push(row.accuracy());
        }
        let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len() as f64;
        let mut presses: Vec<(&str, f64)> = scores.iter().map(|(press, scores)| (*press, mean(scores))).collect();
        presses.sort_by(|a, b| b.1.total_cmp(&a.1));
        presses.into_iter().map(|(press, _)| press).collect()
    }
}

/// Compares every row with the uncompressed run on the samples that both answered, all rows accounted for. Gives the
/// smallest difference that is resolved.
fn against_baseline(rows: &mut [Row]) -> Option<f64> {
    let baseline = rows.iter().find(|row| row.is_baseline())?.scores.clone();
    let paired = |row: &Row| -> Vec<f64> {
        row.scores.iter().filter_map(|(sample, score)| Some(score - baseline.get(sample)?)).collect()
    };
    let mut pressed: Vec<&mut Row> = rows.iter_mut().filter(|row| !row.is_baseline()).collect();
    let differences: Vec<Vec<f64>> = pressed.iter().map(|row| paired(row)).collect();
    let tested: Vec<f64> = differences.iter().map(|differences| sign_flip(differences, SEED)).collect();
    for ((row, differences), p) in pressed.iter_mut().zip(&differences).zip(holm(&tested)) {
        row.difference = difference(differences, SEED);
        row.differs = p <= ALPHA;
    }
    let comparisons = differences.len();
    let mut resolved: Vec<f64> =
        differences.iter().map(|differences| smallest_difference(differences, comparisons)).collect();
    resolved.sort_by(f64::total_cmp);
    // The median press's.
    resolved.get(resolved.len() / 2).copied().filter(|resolved| resolved.is_finite())
}

/// Ranks the presses of each ratio on the samples that all of them answered. Budgets of their own are no common ground.
fn rank(rows: &mut [Row]) {
    let ratios: BTreeSet<u64> = rows.iter().filter(|row| !row.is_baseline()).filter_map(|row| row.cell.ratio).collect();
    for ratio in ratios {
        let mut rivals: Vec<&mut Row> = rows
            .iter_mut()
            .filter(|row| row.cell.ratio == Some(ratio) && !row.is_baseline() && !row.scores.is_empty())
            .collect();
        let Some((first, rest)) = rivals.split_first() else { continue };
        let common: Vec<_> = first
            .scores
            .keys()
            .filter(|sample| rest.iter().all(|row| row.scores.contains_key(*sample)))
            .cloned()
            .collect();
        let scores: Vec<Vec<f64>> =
            rivals.iter().map(|row| common.iter().map(|sample| row.scores[sample]).collect()).collect();
        for (row, rank) in rivals.iter_mut().zip(shared_ranks(&scores, SEED)) {
            row.rank = Some(rank);
        }
    }
}

/// Where a press's tokens after the context stand, as plans say it.
pub(super) fn positions(run: &Run, cell: &Cell) -> Option<String> {
    let sessions = run.plan.get("sessions").and_then(Value::as_array)?;
    let own = sessions.iter().find(|session| {
        session.get("label").and_then(Value::as_str) == Some(&cell.press)
            && session.get("ratio").and_then(Value::as_f64).map(f64::to_bits) == cell.ratio
    })?;
    Some(own.get("positions")?.as_str()?.to_owned())
}

/// Whether a label is that of the uncompressed run.
pub(super) fn is_baseline(press: &str) -> bool {
    press == BASELINE
}
