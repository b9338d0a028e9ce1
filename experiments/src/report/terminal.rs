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
    let several = comparison.tasks.len() > 1;
    let mut header = vec![
        "press",
        "ratio",
        "rank",
        "accuracy",
        "95 %",
        "to uncompressed",
        "removed",
        "cache",
        "prefill s",
        "tokens/s",
    ];
    if several {
        header.insert(6, "worst task");
    }
    let rows = comparison.rows.iter().map(|row| {
        let mut cells = cells(row);
        if several {
            let worst = row.worst_task().map(|(task, score)| format!("{task} {}", percent(score)));
            cells.insert(6, worst.unwrap_or_default());
        }
        cells
    });
    table(&header, rows.collect())
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
