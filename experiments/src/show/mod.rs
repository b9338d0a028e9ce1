//! One sample looked at: what a press kept of its context, over the text itself, and why the answer was lost.

mod page;
mod terminal;
pub mod verdict;

use crate::results::Record;
use crate::selections::{Kept, Stored};
use verdict::{Case, Verdict};

pub use page::page;
pub use terminal::text;

/// A press's selection beside its answer.
pub struct View<'a> {
    /// The context and what presses kept of it.
    pub stored: &'a Stored,
    /// The answer that is looked at.
    pub record: &'a Record,
    /// The uncompressed run's.
    pub uncompressed: Option<&'a Record>,
    /// What the press kept.
    pub kept: &'a Kept,
    /// The press that it is compared with.
    pub against: Option<(&'a Record, &'a Kept)>,
    /// The one layer that is drawn; all of them together otherwise.
    pub layer: Option<usize>,
}

/// How a token is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Kept by so many tenths of the heads, 0 where none keeps it.
    Tenths(u8),
    /// Kept by clearly more heads of the press than of the other.
    Mine,
    /// Kept by clearly more heads of the other press.
    Theirs,
}

impl View<'_> {
    /// Why the answer was lost.
    pub fn verdict(&self) -> Verdict {
        let Stored { text, ends, .. } = self.stored;
        let (record, uncompressed) = (self.record, self.uncompressed);
        Case { record, uncompressed, text, ends, kept: Some(self.kept) }.verdict()
    }

    /// The verdict in a sentence.
    pub fn told(&self) -> String {
        self.verdict().told(Some(self.kept), |token| self.stored.token(token).to_owned())
    }

    /// How a token is drawn.
    pub fn mark(&self, token: usize) -> Mark {
        let own = self.kept.fraction(token, self.layer);
        let other = self.against.map_or(own, |(_, kept)| kept.fraction(token, self.layer));
        match own - other {
            more if more > 0.25 => Mark::Mine,
            less if less < -0.25 => Mark::Theirs,
            _ => Mark::Tenths(tenths(own)),
        }
    }

    /// What of the pairs both presses keep, in words.
    pub fn overlap(&self) -> Option<String> {
        let (record, other) = self.against?;
        let (own, theirs, common) = (self.kept.count(), other.count(), self.kept.common(other));
        let of = |all: usize| format!("{:.1} %", 100.0 * common as f64 / all.max(1) as f64);
        Some(format!(
            "{common} pairs are kept by both: {} of the {own} of {}, {} of the {theirs} of {}.",
            of(own),
            self.record.named(),
            of(theirs),
            record.named()
        ))
    }

    /// The tokens of the answer, with the heads that keep each in every layer.
    pub fn carriers(&self) -> Vec<(usize, Vec<usize>)> {
        let layers = |token| (0..self.kept.layers).map(|layer| self.kept.heads_keeping(token, Some(layer))).collect();
        let verdict = self.verdict();
        let right =
            verdict::places(&self.stored.text, &self.stored.ends, self.record.answers.first().map_or("", |a| a));
        let tokens: Vec<usize> = match verdict.carriers.is_empty() {
            true => right.into_iter().next().into_iter().flatten().collect(),
            false => verdict.carriers.into_iter().map(|(token, _)| token).collect(),
        };
        tokens.into_iter().map(|token| (token, layers(token))).collect()
    }
}

/// Tenths of a fraction: 0 only of nothing, 10 only of everything.
pub fn tenths(fraction: f64) -> u8 {
    match fraction {
        none if none <= 0.0 => 0,
        all if all >= 1.0 => 10,
        some => ((some * 10.0).round() as u8).clamp(1, 9),
    }
}

#[cfg(test)]
mod tests;
