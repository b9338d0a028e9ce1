//! Units of work: one prefill and what is asked of its compressed caches.

use std::collections::HashSet;

use pressroom::pipeline::{Prompt, PromptOptions, Question, Regime};
use pressroom::plan::SessionPlan;
use pressroom::{Error, Result};

use super::{Memory, RunOptions};
use crate::engine::Texts;
use crate::results::Key;
use crate::task::Sample;

/// One prefill: a sample's context for some sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// Index of the sample.
    pub sample: usize,
    /// Its turns that the prompt holds: all of them, or the one whose question is visible.
    pub turns: Vec<usize>,
    /// The sessions with what is asked of them.
    pub due: Vec<Due>,
    /// Tokens of the context.
    pub context_tokens: usize,
    /// Tokens of the questions, one for each of `turns`.
    pub question_tokens: Vec<usize>,
}

/// What is asked of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// Its index in the plan.
    pub session: usize,
    /// The turns without an answer so far.
    pub turns: Vec<usize>,
    /// Bytes that its compressed cache and the answers are going to take.
    pub bytes: u64,
}

impl Unit {
    /// Where a turn stands in the unit's prompt.
    pub fn place(&self, turn: usize) -> usize {
        self.turns.iter().position(|own| *own == turn).unwrap_or(0)
    }

    /// Bytes that all its sessions are going to take.
    pub fn bytes(&self) -> u64 {
        self.due.iter().map(|due| due.bytes).sum()
    }

    /// Questions that it asks.
    pub fn answers(&self) -> usize {
        self.due.iter().map(|due| due.turns.len()).sum()
    }
}

/// The work of a sweep.
#[derive(Clone, Debug, Default)]
pub struct Planned {
    /// In the order in which they are prefilled.
    pub units: Vec<Unit>,
    /// Samples and turns that cannot be asked, with the reason.
    pub refused: Vec<(usize, usize, String)>,
}

impl Planned {
    /// Questions without an answer so far.
    pub fn answers(&self) -> usize {
        self.units.iter().map(Unit::answers).sum()
    }
}

/// Divides what has no answer in `done` into prefills: one for a sample (for a question, where it is visible), more where
/// its sessions do not fit in memory together.
///
/// # Errors
/// A sample that cannot be tokenized, unless the run keeps going.
pub fn units(
    texts: &Texts,
    sessions: &[SessionPlan],
    samples: &[Sample],
    options: RunOptions,
    memory: Memory,
    done: &HashSet<Key>,
) -> Result<Planned> {
    let mut planned = Planned::default();
    for (index, sample) in samples.iter().enumerate().filter(|(index, _)| options.shard.owns(*index)) {
        let all: Vec<usize> = (0..sample.turns.len()).collect();
        let prompts: Vec<Vec<usize>> = match options.regime {
            Regime::Hidden => vec![all],
            Regime::Visible => all.into_iter().map(|turn| vec![turn]).collect(),
        };
        for turns in prompts {
            let open = |plan: &SessionPlan, turn: usize| {
                !done.contains(&(plan.label.clone(), plan.ratio.map(f64::to_bits), index, turn))
            };
            let due = sessions.iter().map(|plan| turns.iter().copied().filter(|turn| open(plan, *turn)).collect());
            let due: Vec<Vec<usize>> = due.collect();
            if due.iter().all(Vec::is_empty) {
                continue;
            }
            let prompt = match prompt(texts, sample, &turns, options) {
                Ok(prompt) => prompt,
                Err(error) if options.keep_going => {
                    planned.refused.extend(turns.iter().map(|turn| (index, *turn, error.to_string())));
                    continue;
                }
                Err(error) => return Err(Error::Input(format!("sample {index}: {error}"))),
            };
            let whole = Unit {
                sample: index,
                question_tokens: prompt.questions.iter().map(Vec::len).collect(),
                turns,
                due: Vec::new(),
                context_tokens: prompt.context.len(),
            };
            let due = due.into_iter().enumerate().filter(|(_, turns)| !turns.is_empty()).map(|(session, turns)| {
                let tokens =
                    |turn: &usize| whole.question_tokens[whole.place(*turn)] + sample.turns[*turn].max_new_tokens;
                let bytes = memory.session(&sessions[session], whole.context_tokens, turns.iter().map(tokens));
                Due { session, turns, bytes }
            });
            planned.units.extend(memory.divide(&whole, due.collect()));
        }
    }
    Ok(planned)
}

/// A sample's context with the questions of some of its turns.
pub(super) fn prompt(texts: &Texts, sample: &Sample, turns: &[usize], options: RunOptions) -> Result<Prompt> {
    let asked: Vec<_> = turns.iter().map(|turn| &sample.turns[*turn]).collect();
    let questions: Vec<Question> = asked
        .iter()
        .map(|turn| Question { text: turn.question.clone(), answer_prefix: turn.answer_prefix.clone() })
        .collect();
    // The same cut whichever turns are asked together.
    let room = texts.room(sample.turns.iter().map(|turn| turn.max_new_tokens).max().unwrap_or(0));
    let how = PromptOptions {
        regime: options.regime,
        raw: options.raw,
        max_context_length: None,
        room,
        truncation: sample.truncation,
    };
    texts.prompt(&sample.context, &questions, how)
}
