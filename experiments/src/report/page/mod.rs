//! The page: one file that needs no network, whatever stands in contexts, answers and labels.
//!
//! Text from runs reaches the page escaped by the template, or as JSON that the script only ever shows as text. The
//! content security policy allows this style sheet and this script, by their hashes, and nothing else.

mod answers;

use minijinja::context;
use pressroom::Result;
use serde::Serialize;

use super::notes::{Described, described};
use super::terminal::{at_a_glance, extra, glance};
use super::words::{LEGEND, difference, interval, percent, ratio, sentences};
use super::{Comparison, Figure, Row, Run};
use crate::html::{hash, render};
use crate::table::bytes;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
const TEMPLATE: &str = include_str!("page.html");

/// One set of conditions.
#[derive(Serialize)]
struct Section {
    slug: String,
    model: String,
    regime: &'static str,
    sentences: Vec<String>,
    /// The ratios, and accuracy at each by press with its tenths.
    ratios: Vec<String>,
    glance: Vec<(String, Vec<(String, u8)>)>,
    groups: Vec<Group>,
    extra: Vec<&'static str>,
    tasks: Vec<String>,
    notes: Vec<(&'static str, String)>,
    presses: Vec<Described>,
    figures: Vec<Drawn>,
}

/// Figures under one heading.
#[derive(Serialize)]
struct Drawn {
    title: &'static str,
    /// What each shows, and its SVG.
    parts: Vec<(String, String)>,
}

/// The rows of one ratio.
#[derive(Serialize)]
struct Group {
    head: String,
    rows: Vec<Line>,
}

/// A row in words.
#[derive(Serialize)]
struct Line {
    press: String,
    rank: String,
    accuracy: String,
    /// Ends and middle of the interval, in percent.
    bar: Option<[String; 3]>,
    interval: String,
    difference: String,
    differs: bool,
    extra: Vec<String>,
    removed: String,
    off_budget: bool,
    cache: String,
    share: String,
    seconds: String,
    rate: String,
    tasks: Vec<String>,
}

/// The page of some runs.
///
/// # Errors
/// A figure cannot be drawn.
pub fn page(runs: &[Run], comparisons: &[Comparison], figures: &[Vec<Figure>]) -> Result<String> {
    let sections = comparisons.iter().zip(figures).map(|(table, figures)| section(runs, table, figures));
    let sections = sections.collect::<Result<Vec<_>>>()?;
    render(
        TEMPLATE,
        context! {
            style => STYLE,
            script => SCRIPT,
            style_hash => hash(STYLE),
            script_hash => hash(SCRIPT),
            sections => sections,
            legend => LEGEND,
            answers => answers::json(runs),
            count => runs.iter().map(|run| run.records.len()).sum::<usize>(),
            runs => runs.iter().map(|run| run.path.display().to_string()).collect::<Vec<_>>(),
        },
    )
}

fn section(runs: &[Run], table: &Comparison, figures: &[Figure]) -> Result<Section> {
    let group = |(asked, rows): (Option<f64>, Vec<&Row>)| Group {
        head: ratio(asked),
        rows: rows.into_iter().map(|row| line(table, row)).collect(),
    };
    let baseline =
        table.baseline().map(|row| Group { head: "nothing compressed".into(), rows: vec![line(table, row)] });
    let drawn = |together: &[Figure]| {
        let parts = together.iter().map(|figure| Ok((figure.part.clone(), figure.svg()?))).collect::<Result<_>>()?;
        Ok(Drawn { title: together[0].title, parts })
    };
    Ok(Section {
        slug: table.slug.clone(),
        model: format!("{}, {}", table.conditions.model, table.conditions.dtype),
        regime: table.conditions.regime(),
        sentences: sentences(table),
        extra: extra(table).into_iter().map(|(name, _)| name).collect(),
        ratios: table.by_ratio().into_iter().map(|(asked, _)| ratio(asked)).collect(),
        glance: glance(table)
            .into_iter()
            .map(|(press, rows)| (press, rows.into_iter().map(shaded).collect()))
            .collect(),
        groups: baseline.into_iter().chain(table.by_ratio().into_iter().map(group)).collect(),
        tasks: if table.tasks.len() > 1 { table.tasks.clone() } else { Vec::new() },
        notes: table.notes(),
        presses: described(runs)?,
        figures: figures.chunk_by(|a, b| a.title == b.title).map(drawn).collect::<Result<_>>()?,
    })
}

/// An accuracy with its tenths.
fn shaded(row: Option<&Row>) -> (String, u8) {
    (at_a_glance(row), row.map_or(0, |row| (10.0 * row.accuracy()).round() as u8))
}

fn line(table: &Comparison, row: &Row) -> Line {
    let means = row.means;
    let known = |text: String| if row.estimate.is_some() { text } else { String::new() };
    Line {
        press: row.cell.press.clone(),
        rank: row.rank.map(|rank| rank.to_string()).unwrap_or_default(),
        accuracy: row.estimate.map_or("failed".into(), |estimate| percent(estimate.mean)),
        bar: row
            .estimate
            .map(|estimate| [estimate.low, estimate.mean, estimate.high].map(|end| format!("{:.1}", 100.0 * end))),
        interval: row.estimate.map(interval).unwrap_or_default(),
        difference: difference(row).unwrap_or_default(),
        differs: row.differs,
        extra: extra(table).into_iter().map(|(_, show)| show(row)).collect(),
        removed: known(format!("{:.3}", means.achieved_ratio)),
        off_budget: row.off_budget(),
        cache: known(bytes(means.cache_bytes as u128)),
        share: known(percent(means.cache_bytes / means.uncompressed_bytes.max(1.0))),
        seconds: known(format!("{:.2}", means.decode_s)),
        rate: known(format!("{:.1}", means.tokens_per_s)),
        tasks: table
            .tasks
            .iter()
            .map(|task| row.by_task.get(task).map(|score| percent(*score)).unwrap_or_default())
            .collect(),
    }
}

#[cfg(test)]
mod tests;
