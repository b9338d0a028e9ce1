//! What a table says, in sentences and short forms.

use super::{Comparison, Row};
use crate::statistics::Estimate;

/// A fraction in percent.
pub fn percent(fraction: f64) -> String {
    format!("{:.1} %", 100.0 * fraction)
}

/// The ends of an interval in percent.
pub fn interval(estimate: Estimate) -> String {
    format!("{:.0}-{:.0}", 100.0 * estimate.low, 100.0 * estimate.high)
}

/// A difference in points, with its sign.
pub fn points(estimate: Estimate) -> String {
    format!("{:+.1}", 100.0 * estimate.mean)
}

/// A difference in points, and whether chance explains it.
pub fn difference(row: &Row) -> Option<String> {
    let difference = row.difference?;
    Some(format!("{}{}", points(difference), if row.differs { " *" } else { "" }))
}

/// What stands for a ratio.
pub fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or("own budget".into(), |ratio| format!("ratio {ratio:.2}"))
}

/// Which differences of a table are resolved: a sentence for each ratio, and what so many samples can tell at all.
pub fn sentences(table: &Comparison) -> Vec<String> {
    let Some(baseline) = table.baseline() else {
        return vec!["There is no uncompressed run to compare with: set [run] baseline = true.".into()];
    };
    let samples = table.samples;
    let mut all = vec![format!(
        "Uncompressed, {} of {samples} samples are right (95 % interval {} %).",
        percent(baseline.accuracy()),
        baseline.estimate.map(interval).unwrap_or_default()
    )];
    for (asked, rows) in table.by_ratio() {
        let (differ, same): (Vec<&Row>, Vec<&Row>) =
            rows.into_iter().filter(|row| row.difference.is_some()).partition(|row| row.differs);
        let mut differ: Vec<String> = differ
            .iter()
            .map(|row| format!("{} ({} points)", row.cell.press, row.difference.map(points).unwrap_or_default()))
            .collect();
        let at = format!("At {}", ratio(asked));
        let same: Vec<String> = same.iter().map(|row| row.cell.press.clone()).collect();
        all.push(match (differ.is_empty(), same.is_empty()) {
            (true, _) => format!("{at}, no press differs from the uncompressed run by more than chance explains."),
            (false, true) => format!("{at}, every press differs from the uncompressed run: {}.", listed(&mut differ)),
            (false, false) => format!(
                "{at}, {} differ{} from the uncompressed run; of {} that is not shown.",
                listed(&mut differ.clone()),
                if differ.len() == 1 { "s" } else { "" },
                listed(&mut same.clone())
            ),
        });
    }
    if let Some(resolution) = table.resolution {
        all.push(if resolution >= 1.0 {
            format!("{samples} samples are too few to resolve any difference among so many comparisons.")
        } else {
            format!(
                "With {samples} samples and {} comparisons, differences below about {:.0} points are not resolved.",
                table.rows.len().saturating_sub(1),
                100.0 * resolution
            )
        });
    }
    all
}

/// `a, b and c`.
fn listed(words: &mut Vec<String>) -> String {
    match words.pop() {
        None => String::new(),
        Some(last) if words.is_empty() => last,
        Some(last) => format!("{} and {last}", words.join(", ")),
    }
}

/// How the columns are to be read.
pub const LEGEND: [(&str, &str); 7] = [
    ("accuracy", "mean score over samples; beside it the 95 % interval (Bayesian bootstrap)"),
    (
        "to uncompressed",
        "difference in points on the same samples; * where it is more than chance explains (paired sign-flip test, Holm over all rows)",
    ),
    ("rank", "one more than the presses that are better beyond chance at this ratio: unresolved presses share it"),
    (
        "strict, KL, worst task, cut off, errors",
        "where there are any: the score without credit for rambling, the divergence to the uncompressed model, the task with the lowest mean, answers that their limit ended, answers that failed",
    ),
    (
        "removed",
        "the fraction of the KV pairs that was removed; † where it is not what was asked for, so that budgets differ",
    ),
    ("cache", "bytes measured from the allocations, before the question, without temporary memory"),
    (
        "s an answer, tokens/s",
        "the answer's share of the steps in which it was decoded together with others; the prefill and what presses compute in it are not in it",
    ),
];
