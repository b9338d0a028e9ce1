//! Tables for the terminal and for Markdown.

use super::words::{difference, interval, percent, sentences};
use super::{Comparison, Row};
use crate::table::{bytes, table};

/// The tables with their sentences, one for each set of conditions.
pub fn text(comparisons: &[Comparison]) -> String {
    let one = |comparison: &Comparison| {
        let what = &comparison.conditions;
        format!(
            "{}, {}, {}:\n{}{}\n",
            what.model,
            what.dtype,
            what.regime(),
            rows(comparison, &comparison.rows.iter().collect::<Vec<_>>()),
            sentences(comparison).join("\n")
        )
    };
    comparisons.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// A column: its heading, and what stands in it.
pub type Column = (&'static str, fn(&Row) -> String);

/// What tells rows apart, and how right they are.
const FIRST: [Column; 6] = [
    ("press", |row| row.cell.press.clone()),
    ("ratio", |row| row.ratio().map_or("own".into(), |ratio| format!("{ratio:.2}"))),
    ("rank", |row| row.rank.map(|rank| rank.to_string()).unwrap_or_default()),
    ("accuracy", accuracy),
    ("95 %", |row| row.estimate.map(interval).unwrap_or_default()),
    ("to uncompressed", |row| difference(row).unwrap_or_default()),
];

/// What that took.
const LAST: [Column; 4] = [
    ("removed", |row| {
        known(row, format!("{:.3}{}", row.means.achieved_ratio, if row.off_budget() { " †" } else { "" }))
    }),
    ("cache", |row| known(row, bytes(row.means.cache_bytes as u128))),
    ("s an answer", |row| known(row, format!("{:.2}", row.means.decode_s))),
    ("tokens/s", |row| known(row, format!("{:.1}", row.means.tokens_per_s))),
];

fn accuracy(row: &Row) -> String {
    row.estimate.map_or("failed".into(), |estimate| percent(estimate.mean))
}

/// Nothing where every answer failed.
fn known(row: &Row, text: String) -> String {
    if row.estimate.is_some() { text } else { String::new() }
}

/// One line for each of some rows of a comparison.
pub fn rows(comparison: &Comparison, rows: &[&Row]) -> String {
    let columns: Vec<Column> = FIRST.into_iter().chain(extra(comparison)).chain(LAST).collect();
    let header: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    table(&header, rows.iter().map(|row| columns.iter().map(|(_, show)| show(row)).collect()).collect())
}

/// The rows of each press at each ratio, nothing compressed and then the most accurate press first; nothing where a single
/// ratio was asked for.
pub fn glance(comparison: &Comparison) -> Vec<(String, Vec<Option<&Row>>)> {
    let ratios: Vec<Option<u64>> = comparison.by_ratio().iter().map(|(ratio, _)| ratio.map(f64::to_bits)).collect();
    let find = |press: &str, ratio: &Option<u64>| {
        comparison.rows.iter().find(|row| row.cell.press == press && row.cell.ratio == *ratio)
    };
    let pressed = |press: &str| (press.to_owned(), ratios.iter().map(|ratio| find(press, ratio)).collect());
    if ratios.len() < 2 {
        return Vec::new();
    }
    let mut all = Vec::new();
    all.extend(comparison.baseline().map(|row| (row.cell.press.clone(), vec![Some(row); ratios.len()])));
    all.extend(comparison.presses().into_iter().map(pressed));
    all
}

/// What stands in the glance for a row: its accuracy, and whether it differs from the uncompressed run.
pub fn at_a_glance(row: Option<&Row>) -> String {
    row.map_or(String::new(), |row| format!("{}{}", accuracy(row), if row.differs { " *" } else { "" }))
}

/// Columns that only some comparisons have something in.
pub fn extra(comparison: &Comparison) -> Vec<Column> {
    let any = |has: fn(&Row) -> bool| comparison.rows.iter().any(has);
    let differs = |row: &Row| row.strict.is_some_and(|strict| (strict - row.accuracy()).abs() > 1e-9);
    let columns: [(bool, Column); 5] = [
        (any(differs), ("strict", |row| row.strict.map(percent).unwrap_or_default())),
        (any(|row| row.kl.is_some()), ("KL", |row| row.kl.map(|kl| format!("{kl:.3}")).unwrap_or_default())),
        (
            comparison.tasks.len() > 1,
            ("worst task", |row| {
                row.worst_task().map(|(task, score)| format!("{task} {}", percent(score))).unwrap_or_default()
            }),
        ),
        (any(|row| row.cut_off > 0), ("cut off", |row| known(row, row.cut_off.to_string()))),
        (any(|row| row.errors > 0), ("errors", |row| row.errors.to_string())),
    ];
    columns.into_iter().filter(|(there, _)| *there).map(|(_, column)| column).collect()
}
