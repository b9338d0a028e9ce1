//! What a run shows of itself while it goes on: how every press stands at every ratio so far, updated in place, and
//! below it how far the run is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use console::{Term, truncate_str};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use pressroom::plan::SessionPlan;

use crate::results::Record;
use crate::table::table;

/// Lines of a terminal that rows cannot have: the table's head, what tells of rows left out, the bar, and a spare one.
const TAKEN: usize = 5;

/// The display of a run.
pub struct Live {
    bar: ProgressBar,
    standing: Standing,
}

impl Live {
    /// On standard error; nothing where that is no terminal.
    pub fn on_terminal() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        // The template is a constant; a mistake in it would only lose the bar's looks.
        let template = "{msg}\n{wide_bar} {pos}/{len} answers in {elapsed}, {rate}, {eta} left";
        let rate = |state: &ProgressState, out: &mut dyn Write| {
            // A text that is drawn can be written.
            let _ = write!(out, "{:.1}/s", state.per_sec());
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.with_key("rate", rate));
        }
        Self { bar, standing: Standing::default() }
    }

    /// Nothing.
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), standing: Standing::default() }
    }

    /// A run that has some answers already, and `due` more to come.
    pub(crate) fn begin(&mut self, sessions: &[SessionPlan], known: &[Record], due: usize) {
        self.standing = Standing::of(sessions);
        known.iter().for_each(|record| self.standing.add(record));
        self.draw();
        self.bar.set_length((known.len() + due) as u64);
        self.bar.set_position(known.len() as u64);
        self.bar.reset_eta();
        // A long prefill is seen to go on.
        self.bar.enable_steady_tick(Duration::from_secs(1));
    }

    /// More answers.
    pub(crate) fn add(&mut self, new: &[Record]) {
        new.iter().for_each(|record| self.standing.add(record));
        self.bar.inc(new.len() as u64);
        self.draw();
    }

    /// Takes the display away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn draw(&self) {
        if !self.bar.is_hidden() {
            let (height, width) = Term::stderr().size();
            self.bar.set_message(self.standing.text(usize::from(height), usize::from(width)));
        }
    }
}

/// The answers so far, by press and ratio.
#[derive(Default)]
struct Standing {
    /// Labels in the order of the plan.
    presses: Vec<String>,
    /// Bits of the ratios in their order, budgets of the presses' own last.
    ratios: Vec<Option<u64>>,
    cells: BTreeMap<(String, Option<u64>), Cell>,
}

#[derive(Clone, Copy, Default)]
struct Cell {
    score: f64,
    answers: usize,
    failed: usize,
}

impl Standing {
    fn of(sessions: &[SessionPlan]) -> Self {
        let mut presses: Vec<String> = Vec::new();
        for plan in sessions {
            if !presses.contains(&plan.label) {
                presses.push(plan.label.clone());
            }
        }
        let key = |plan: &SessionPlan| (plan.label.clone(), plan.ratio.map(f64::to_bits));
        let cells: BTreeMap<_, _> = sessions.iter().map(|plan| (key(plan), Cell::default())).collect();
        // Of numbers that are not negative the bits have the order of the numbers.
        let ratios: BTreeSet<_> = cells.keys().map(|(_, ratio)| (ratio.is_none(), *ratio)).collect();
        Self { presses, ratios: ratios.into_iter().map(|(_, ratio)| ratio).collect(), cells }
    }

    fn add(&mut self, record: &Record) {
        let cell = self.cells.entry((record.press.clone(), record.ratio.map(f64::to_bits))).or_default();
        match record.error {
            Some(_) => cell.failed += 1,
            None => (cell.answers, cell.score) = (cell.answers + 1, cell.score + record.score),
        }
    }

    /// As a table for a terminal of so many lines and columns; where there are more presses than lines, the best.
    fn text(&self, height: usize, width: usize) -> String {
        let mut shown: Vec<&String> = self.presses.iter().collect();
        let room = height.saturating_sub(TAKEN).max(1);
        let left_out = shown.len().saturating_sub(room);
        if left_out > 0 {
            shown.sort_by(|a, b| self.together(b).mean().total_cmp(&self.together(a).mean()));
            shown.truncate(room);
        }
        let ratio = |ratio: &Option<u64>| ratio.map_or("own".to_owned(), |bits| format!("{:.2}", f64::from_bits(bits)));
        let mut header = vec!["so far".to_owned()];
        header.extend(self.ratios.iter().map(ratio));
        header.push("answers".to_owned());
        let row = |press: &&String| {
            let cell = |ratio: &Option<u64>| self.cells.get(&((*press).clone(), *ratio)).map(Cell::shown);
            let mut row = vec![(*press).clone()];
            row.extend(self.ratios.iter().map(|ratio| cell(ratio).unwrap_or_default()));
            row.push(self.together(press).answers.to_string());
            row
        };
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let mut text = table(&header, shown.iter().map(row).collect());
        if left_out > 0 {
            text += &format!("and {left_out} presses behind them\n");
        }
        text.lines().map(|line| truncate_str(line, width, "…")).collect::<Vec<_>>().join("\n")
    }

    /// A press at all its ratios.
    fn together(&self, press: &str) -> Cell {
        let own = self.cells.iter().filter(|((label, _), _)| label == press).map(|(_, cell)| cell);
        own.fold(Cell::default(), |sum, cell| Cell {
            score: sum.score + cell.score,
            answers: sum.answers + cell.answers,
            failed: sum.failed + cell.failed,
        })
    }
}

impl Cell {
    /// Mean score; 0 of no answer.
    fn mean(&self) -> f64 {
        self.score / self.answers.max(1) as f64
    }

    /// As wide as any accuracy, so that columns stay where they are.
    fn shown(&self) -> String {
        let mean = if self.answers > 0 { format!("{:.1} %", 100.0 * self.mean()) } else { String::new() };
        match self.failed {
            0 if self.answers == 0 => format!("{:>7}", "-"),
            0 => format!("{mean:>7}"),
            failed => format!("{mean} {failed} failed").trim_start().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(presses: &[(&str, Option<f64>)]) -> Standing {
        let key = |(press, ratio): &(&str, Option<f64>)| ((*press).to_owned(), ratio.map(f64::to_bits));
        let mut standing = Standing {
            presses: presses.iter().map(|(press, _)| (*press).to_owned()).collect(),
            ratios: presses.iter().map(|(_, ratio)| ratio.map(f64::to_bits)).collect(),
            cells: presses.iter().map(|press| (key(press), Cell::default())).collect(),
        };
        standing.presses.dedup();
        standing.ratios.dedup();
        standing
    }

    fn answer(press: &str, ratio: Option<f64>, score: f64) -> Record {
        Record { press: press.into(), ratio, score, ..Record::default() }
    }

    #[test]
    fn presses_stand_by_their_ratios() {
        let mut standing = standing(&[("none", Some(0.0)), ("knorm", Some(0.5)), ("own", None)]);
        standing.add(&answer("knorm", Some(0.5), 1.0));
        standing.add(&answer("knorm", Some(0.5), 0.0));
        standing.add(&Record { error: Some("no".into()), ..answer("own", None, 0.0) });
        let text = standing.text(24, 80);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect();
        assert_eq!(lines[0], ["so far", "0.00", "0.50", "own", "answers"]);
        assert_eq!(lines[2], ["none", "-", "", "", "0"]);
        assert_eq!(lines[3], ["knorm", "", "50.0 %", "", "2"]);
        assert_eq!(lines[4], ["own", "", "", "1 failed", "0"]);
    }

    #[test]
    fn a_small_terminal_shows_the_best() {
        let names: Vec<String> = (0..40).map(|index| format!("press {index}")).collect();
        let mut standing = standing(&names.iter().map(|name| (name.as_str(), Some(0.5))).collect::<Vec<_>>());
        for (index, name) in names.iter().enumerate() {
            standing.add(&answer(name, Some(0.5), index as f64 / 40.0));
        }
        let text = standing.text(10, 20);
        assert!(text.contains("press 39") && text.contains("press 35") && !text.contains("press 34"), "{text}");
        assert!(text.ends_with("and 35 presses behi…"), "{text}");
        assert!(
            text.lines().count() < 10 && text.lines().all(|line| console::measure_text_width(line) <= 20),
            "{text}"
        );
    }
}
