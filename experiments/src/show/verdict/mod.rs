//! Why an answer was lost, as far as text and selections tell.
//!
//! The tokens that carry an answer are those that its text takes up in the context; where it stands there several times,
//! the best kept place counts. What a press keeps of other tokens may carry the answer too, so a verdict names the
//! likely reason and the figures behind it, not a proof.

mod places;

use pressroom::pipeline::StopReason;

use crate::results::Record;
use crate::selections::Kept;
use crate::task::Metric;

pub use places::{Place, places};

/// A reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing was lost.
    Right,
    /// A graded score that the uncompressed run does not surpass.
    AsUncompressed,
    /// The press or the model failed with an error.
    Failed,
    /// The answer is there, written in another way than the metric takes.
    Misformatted,
    /// The limit ended the answer before it was complete.
    CutOff,
    /// A token of the answer is kept by no head at all.
    EvictedEverywhere,
    /// Every token of the answer is kept by a head, and some are evicted by others.
    EvictedInSome,
    /// Every head kept the answer, and the model did not use it.
    KeptNotUsed,
    /// The answer does not stand in the context as it is, so no tokens carry it.
    NotInContext,
    /// The run stored no selections.
    Unknown,
}

/// A reason with its figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Why the answer was lost.
    pub reason: Reason,
    /// Whether the uncompressed run lost it too, so that it was not the press.
    pub also_uncompressed: bool,
    /// The tokens that carry the answer, with the heads that keep each, where the context holds it.
    pub carriers: Vec<(usize, usize)>,
}

/// What a verdict is about.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The answer.
    pub record: &'a Record,
    /// What the uncompressed run answered.
    pub uncompressed: Option<&'a Record>,
    /// The context's text.
    pub text: &'a str,
    /// Where each of its tokens ends in it.
    pub ends: &'a [usize],
    /// What was kept; absent where it was not stored.
    pub kept: Option<&'a Kept>,
}

impl Case<'_> {
    /// Says why the answer was lost.
    pub fn verdict(&self) -> Verdict {
        let missing: Vec<&String> = self.missing();
        let carriers = self.carriers(&missing);
        let reason = self.reason(&missing, &carriers);
        let lost = !matches!(reason, Reason::Right | Reason::AsUncompressed);
        let also_uncompressed = lost && self.uncompressed.is_some_and(|full| full.score < 1.0);
        Verdict { reason, also_uncompressed, carriers }
    }

    fn reason(&self, missing: &[&String], carriers: &[(usize, usize)]) -> Reason {
        let record = self.record;
        if record.error.is_some() {
            return Reason::Failed;
        }
        if record.score >= 1.0 {
            return Reason::Right;
        }
        if record.score > 0.0 && self.uncompressed.is_some_and(|full| full.score < 1.0 && record.score >= full.score) {
            return Reason::AsUncompressed;
        }
        let told = letters(&record.prediction);
        let written = |answer: &&String| told.contains(&letters(answer));
        let all = if self.alternatives() { missing.iter().any(written) } else { missing.iter().all(written) };
        if !missing.is_empty() && all {
            return Reason::Misformatted;
        }
        if carriers.iter().any(|(_, heads)| *heads == 0) && self.kept.is_some() {
            return Reason::EvictedEverywhere;
        }
        if record.stop_reason == Some(StopReason::Length) && self.was_coming(missing, &told) {
            return Reason::CutOff;
        }
        match self.kept {
            None => Reason::Unknown,
            Some(_) if carriers.is_empty() => Reason::NotInContext,
            Some(kept) => {
                let all = kept.layers * kept.kv_heads;
                let whole = carriers.iter().all(|(_, heads)| *heads == all);
                if whole { Reason::KeptNotUsed } else { Reason::EvictedInSome }
            }
        }
    }

    /// The right answers that the prediction lacks.
    fn missing(&self) -> Vec<&String> {
        let prediction = self.record.prediction.to_lowercase();
        self.record.answers.iter().filter(|answer| !prediction.contains(&answer.to_lowercase())).collect()
    }

    /// The tokens of the missing answers with the heads that keep them: of each answer the place that is kept best.
    fn carriers(&self, missing: &[&String]) -> Vec<(usize, usize)> {
        let heads = |token: usize| self.kept.map_or(0, |kept| kept.heads_keeping(token, None));
        let counted = |place: Place| place.map(|token| (token, heads(token))).collect::<Vec<_>>();
        let least = |tokens: &Vec<(usize, usize)>| tokens.iter().map(|(_, heads)| *heads).min();
        let best = |answer: &&String| places(self.text, self.ends, answer).into_iter().map(counted).max_by_key(least);
        let answers = missing.iter().filter_map(best);
        if self.alternatives() { answers.max_by_key(least).unwrap_or_default() } else { answers.flatten().collect() }
    }

    /// Whether one of the answers is enough.
    fn alternatives(&self) -> bool {
        self.record.metric != Metric::StringMatch
    }

    /// Whether an answer that the limit ended was on its way to the right one: it ends with the beginning of it, begins
    /// as the right answer of the uncompressed run does, or has not come to anything of the answer's kind.
    fn was_coming(&self, missing: &[&String], told: &str) -> bool {
        let begun = |answer: &&String| {
            let answer = letters(answer);
            (1..answer.len()).any(|end| answer.is_char_boundary(end) && told.ends_with(&answer[..end]))
        };
        let full = self.uncompressed.filter(|full| full.score >= 1.0);
        if let Some(full) = full {
            return letters(&full.prediction).starts_with(told);
        }
        let numbers = missing.iter().all(|answer| answer.contains(|letter: char| letter.is_ascii_digit()));
        let number_told = told.contains(|letter: char| letter.is_ascii_digit());
        let ended = self.record.prediction.trim_end().contains(['.', '!', '?', '\n']);
        missing.iter().any(begun) || (!ended && numbers && !number_told)
    }
}

/// Letters and digits alone, in lower case: what is left when the format does not count.
fn letters(text: &str) -> String {
    text.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

impl Verdict {
    /// The verdict in a sentence.
    pub fn told(&self, kept: Option<&Kept>, token: impl Fn(usize) -> String) -> String {
        let all = kept.map_or(0, |kept| kept.layers * kept.kv_heads);
        let least = self.carriers.iter().min_by_key(|(_, heads)| *heads);
        let least = least.map(|(place, heads)| (format!("{:?} (token {place})", token(*place).trim()), *heads));
        let told = match (self.reason, least) {
            (Reason::Right, _) => "The answer is right.".into(),
            (Reason::AsUncompressed, _) => "Nothing is lost: the uncompressed run scores no more.".into(),
            (Reason::Failed, _) => "There is no answer: it failed with an error.".into(),
            (Reason::Misformatted, _) => "Misformatted: the answer is there, written differently.".into(),
            (Reason::CutOff, _) => "Cut off: the limit ended the answer before it was complete.".into(),
            (Reason::EvictedEverywhere, Some((token, _))) => {
                let gone = self.carriers.iter().filter(|(_, heads)| *heads == 0).count();
                let tokens = self.carriers.len();
                format!(
                    "Evicted in every head: none of {all} keeps {token}; {gone} of the answer's {tokens} tokens are gone."
                )
            }
            (Reason::EvictedInSome, Some((token, heads))) => {
                format!(
                    "Evicted in some heads: {token}, the token of the answer kept least, is kept by {heads} of {all}."
                )
            }
            (Reason::KeptNotUsed, _) => "Kept but not used: every head keeps all tokens of the answer.".into(),
            (Reason::NotInContext, _) => {
                "The answer does not stand in the context word for word, so selections do not tell.".into()
            }
            _ => "The run stored no selections, so they do not tell; set [run] selections = true.".into(),
        };
        let shared =
            if self.also_uncompressed { " The uncompressed run loses it too: it is not the press." } else { "" };
        format!("{told}{shared}")
    }
}

#[cfg(test)]
mod tests;
