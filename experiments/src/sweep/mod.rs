//! A sweep: presses x ratios x questions for the price of a few prefills.
//!
//! One prefill of a sample's context serves every press and ratio. All questions to all compressed caches are decoded
//! together, across samples too, as far as memory allows; each answer is in the journal as soon as it is known.

mod desk;
mod follow;
mod forecast;
mod memory;
mod shard;
mod unit;

use std::path::PathBuf;
use std::time::Instant;

use pressroom::pipeline::Regime;
use pressroom::plan::SessionPlan;
use pressroom::press::Pipeline;
use pressroom::{Error, Result};

use crate::engine::Engine;
use crate::live::Live;
use crate::results::{Record, RunFolder};
use crate::selections::{self, Prefill};
use crate::task::{Sample, Turn};

use desk::Desk;
pub use forecast::{Forecast, Rates};
pub use memory::Memory;
pub use shard::Shard;
pub use unit::{Planned, Unit, units};

/// Sequences from which on more of them make a step no cheaper for each: the weights are read once for all of them, and
/// that is what a step costs at first.
const ENOUGH: usize = 64;

/// What every sample of a run shares.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// Whether presses see the question.
    pub regime: Regime,
    /// Use contexts as they are, without the chat template.
    pub raw: bool,
    /// Seed of random presses.
    pub seed: u64,
    /// Whether samples that cannot be asked become records with an error instead of ending the run.
    pub keep_going: bool,
    /// The part of the samples that is asked.
    pub shard: Shard,
}

/// The questions of an experiment.
pub struct Sweep<'a> {
    /// The press at each ratio.
    pub sessions: &'a [SessionPlan],
    /// The contexts with their questions.
    pub samples: &'a [Sample],
    /// What the samples share.
    pub options: RunOptions,
    /// Bounds what lives at once.
    pub memory: Memory,
    /// The run folder that selections are stored in, if they are.
    pub selections: Option<PathBuf>,
}

impl Sweep<'_> {
    /// Answers what is due in `planned` and writes each answer as soon as it is known.
    ///
    /// # Errors
    /// A context cannot be prefilled (unless the run keeps going), or the results cannot be written. A press that fails
    /// is a record with an error for every question.
    pub fn run(
        &self,
        engine: &Engine,
        planned: &Planned,
        folder: &mut RunFolder,
        live: &mut Live,
    ) -> Result<Vec<Record>> {
        let mut records = folder.finished().to_vec();
        live.begin(self.sessions, &records, planned.answers());
        let mut keep = |new: Vec<Record>| -> Result<()> {
            if !new.is_empty() {
                folder.append(&new)?;
                live.add(&new);
                records.extend(new);
            }
            Ok(())
        };
        for (sample, turn, error) in &planned.refused {
            let failed = |session: &SessionPlan| self.failed(session, *sample, *turn, error);
            keep(self.sessions.iter().map(failed).collect())?;
        }
        let mut desk = Desk::new(engine);
        let mut waiting = planned.units.iter().peekable();
        loop {
            let fits = |unit: &Unit| desk.is_empty() || self.memory.fits(unit, desk.bytes());
            if let Some(unit) = waiting.next_if(|unit| desk.len() < ENOUGH && fits(unit)) {
                keep(self.admit(engine, unit, &mut desk)?)?;
            } else if desk.is_empty() {
                break;
            } else {
                keep(desk.step())?;
            }
        }
        live.end();
        let order = |record: &Record| {
            self.sessions.iter().position(|plan| plan.label == record.press && plan.ratio == record.ratio)
        };
        records.sort_by_key(|record| (record.index, order(record), record.turn));
        Ok(records)
    }

    /// Prefills a unit and asks its questions. Gives the records of what cannot be answered, and of what is measured at
    /// once.
    fn admit(&self, engine: &Engine, unit: &Unit, desk: &mut Desk<'_>) -> Result<Vec<Record>> {
        let sample = &self.samples[unit.sample];
        let plans: Vec<&SessionPlan> = unit.due.iter().map(|due| &self.sessions[due.session]).collect();
        let mut pipelines: Vec<&Pipeline> = plans.iter().map(|plan| &plan.pipeline).collect();
        // Continuations are compared with what the uncompressed context makes of them.
        let (whole, compares) = (Pipeline::default(), sample.turns.iter().any(Turn::is_continuation));
        pipelines.extend(compares.then_some(&whole));
        let start = Instant::now();
        let prompt = unit::prompt(&engine.texts, sample, &unit.turns, self.options);
        let outcomes = prompt.and_then(|prompt| {
            let seed = self.options.seed.wrapping_add(unit.sample as u64);
            Ok((engine.compress(&prompt, &pipelines, seed)?, prompt))
        });
        let (mut outcomes, prompt) = match outcomes {
            Ok(outcomes) => outcomes,
            Err(error) if self.options.keep_going => {
                let error = error.to_string();
                let due =
                    unit.due.iter().zip(&plans).flat_map(|(due, plan)| due.turns.iter().map(move |turn| (plan, turn)));
                return Ok(due.map(|(plan, turn)| self.failed(plan, unit.sample, *turn, &error)).collect());
            }
            Err(error) => return Err(Error::Input(format!("sample {}: {error}", unit.sample))),
        };
        let prefill_s = start.elapsed().as_secs_f64();
        let uncompressed = if compares { outcomes.pop() } else { None };
        let mut known = Vec::new();
        if let Some(folder) = &self.selections {
            let prefill = Prefill {
                sample: unit.sample,
                questions: unit.turns.iter().map(|turn| (*turn, sample.turns[*turn].question.clone())).collect(),
                context: &prompt.context,
                outcomes: plans.iter().copied().zip(&outcomes).collect(),
            };
            selections::write(folder, &engine.texts.tokenizer, &prefill)?;
        }
        let blank = |plan: &SessionPlan, turn: usize| {
            let context_tokens = prompt.context.len();
            Record {
                context_tokens,
                truncated_tokens: prompt.truncated,
                uncompressed_bytes: engine.uncompressed_bytes(context_tokens),
                prefill_s,
                ..self.blank(plan, unit.sample, turn)
            }
        };
        let continues = |turn: &usize| sample.turns[*turn].is_continuation();
        if let Some(uncompressed) = &uncompressed {
            for turn in unit.turns.iter().copied().filter(continues) {
                let due = unit.due.iter().zip(&plans).zip(&outcomes).filter(|((due, _), _)| due.turns.contains(&turn));
                let asked = due.map(|((_, plan), outcome)| (blank(plan, turn), outcome)).collect();
                known.extend(follow::follow(engine, uncompressed, &sample.turns[turn], asked));
            }
        }
        for ((due, plan), outcome) in unit.due.iter().zip(&plans).zip(outcomes) {
            let questions = due.turns.iter().filter(|turn| !continues(turn)).map(|turn| {
                let question = prompt.questions[unit.place(*turn)].as_slice();
                (blank(plan, *turn), &sample.turns[*turn], question)
            });
            known.extend(desk.ask(outcome, questions.collect(), due.bytes));
        }
        Ok(known)
    }

    /// A record of a question before anything is known of its answer.
    fn blank(&self, plan: &SessionPlan, index: usize, turn: usize) -> Record {
        let sample = &self.samples[index];
        Record {
            press: plan.label.clone(),
            ratio: plan.ratio,
            index,
            turn,
            task: sample.task.clone(),
            question: self.options.regime,
            answers: sample.turns[turn].answers.clone(),
            metric: sample.turns[turn].metric.clone(),
            facets: sample.facets.clone(),
            ..Record::default()
        }
    }

    fn failed(&self, plan: &SessionPlan, index: usize, turn: usize, error: &str) -> Record {
        Record { error: Some(error.to_owned()), ..self.blank(plan, index, turn) }
    }
}

#[cfg(test)]
mod tests;
