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
            rows(comparison),
            sentences(comparison).join("\n")
        )
    };
    comparisons.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// One line for each press and ratio.
pub fn rows(comparison: &Comparison) -> String {
    let mut header = ["press", "ratio", "rank", "accuracy", "95 %", "to uncompressed"].map(str::to_owned).to_vec();
    let extra = extra(comparison);
    header.extend(extra.iter().map(|(name, _)| (*name).to_owned()));
    header.extend(["removed", "cache", "prefill s", "tokens/s"].map(str::to_owned));
    let rows = comparison.rows.iter().map(|row| {
        let mut cells = cells(row);
        cells.splice(6..6, extra.iter().map(|(_, show)| show(row)));
        cells
    });
    table(&header.iter().map(String::as_str).collect::<Vec<_>>(), rows.collect())
}

/// A column: its heading, and what stands in it.
pub type Column = (&'static str, fn(&Row) -> String);

/// Columns that only some comparisons have something in.
pub fn extra(comparison: &Comparison) -> Vec<Column> {
    let any = |has: fn(&Row) -> bool| comparison.rows.iter().any(has);
    let differs = |row: &Row| row.strict.is_some_and(|strict| (strict - row.accuracy()).abs() > 1e-9);
    let columns: [(bool, Column); 3] = [
        (any(differs), ("strict", |row| row.strict.map(percent).unwrap_or_default())),
        (any(|row| row.kl.is_some()), ("KL", |row| row.kl.map(|kl| format!("{kl:.3}")).unwrap_or_default())),
        (
            comparison.tasks.len() > 1,
            ("worst task", |row| {
                row.worst_task().map(|(task, score)| format!("{task} {}", percent(score))).unwrap_or_default()
            }),
        ),
    ];
    columns.into_iter().filter(|(there, _)| *there).map(|(_, column)| column).collect()
}

fn cells(row: &Row) -> Vec<String> {
    let Some(estimate) = row.estimate else {
        let mut cells = vec![String::new(); 10];
        cells[0].clone_from(&row.cell.press);
        cells[1] = row.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        cells[3] = "failed".into();
        return cells;
    };
    vec![
        row.cell.press.clone(),
        row.ratio().map_or("own".into(), |ratio| format!("{ratio:.2}")),
        row.rank.map(|rank| rank.to_string()).unwrap_or_default(),
        percent(estimate.mean),
        interval(estimate),
        difference(row).unwrap_or_default(),
        format!("{:.3}{}", row.means.achieved_ratio, if row.off_budget() { " †" } else { "" }),
        bytes(row.means.cache_bytes as u128),
        format!("{:.2}", row.means.prefill_s),
        format!("{:.1}", row.means.tokens_per_s),
    ]
}
