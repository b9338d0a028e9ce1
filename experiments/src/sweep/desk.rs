//! The questions that are being answered: one batch, whose failures are sorted out one by one.

use std::collections::BTreeMap;
use std::rc::Rc;

use pressroom::Result;
use pressroom::pipeline::{Asked, Batch, Compressed, Finished};

use crate::engine::Engine;
use crate::results::Record;
use crate::task::Turn;

/// Questions on their way to an answer.
pub struct Desk<'e> {
    engine: &'e Engine,
    batch: Batch<'e>,
    /// By the batch's ids.
    pending: BTreeMap<usize, Pending>,
}

/// A question that was asked.
struct Pending {
    context: Rc<Compressed>,
    question: Vec<i64>,
    max_new_tokens: usize,
    blank: Record,
    /// Its part of its session's bytes.
    bytes: u64,
}

impl Pending {
    fn ask(&self, batch: &mut Batch<'_>) -> Result<usize> {
        batch.ask(Asked { context: &self.context, question: &self.question }, self.max_new_tokens)
    }

    fn failed(self, error: &pressroom::Error) -> Record {
        Record { error: Some(error.to_string()), ..self.blank }
    }
}

impl<'e> Desk<'e> {
    /// With no question on it.
    pub fn new(engine: &'e Engine) -> Self {
        Self { engine, batch: batch(engine), pending: BTreeMap::new() }
    }

    /// Questions without an answer so far.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Bytes of the sessions that are still asked something.
    pub fn bytes(&self) -> u64 {
        self.pending.values().map(|pending| pending.bytes).sum()
    }

    /// Asks a session its questions: each a record without an answer, what is asked, and its tokens. `bytes` are those
    /// of the session. Gives the records of the questions that could not be asked.
    pub fn ask(
        &mut self,
        session: Result<Compressed>,
        questions: Vec<(Record, &Turn, &[i64])>,
        bytes: u64,
    ) -> Vec<Record> {
        let bytes = bytes / questions.len().max(1) as u64;
        let context = match session {
            Ok(context) => Rc::new(context),
            Err(error) => {
                let failed = |blank| Record { error: Some(error.to_string()), ..blank };
                return questions.into_iter().map(|(blank, ..)| failed(blank)).collect();
            }
        };
        let mut failed = Vec::new();
        for (blank, turn, question) in questions {
            let blank = Record {
                achieved_ratio: context.achieved_ratio(blank.context_tokens),
                cache_bytes: context.cache.bytes() as u64,
                ..blank
            };
            let (question, max_new_tokens) = (question.to_vec(), turn.max_new_tokens);
            let pending = Pending { context: context.clone(), question, max_new_tokens, blank, bytes };
            match pending.ask(&mut self.batch) {
                Ok(id) => drop(self.pending.insert(id, pending)),
                Err(error) => failed.push(pending.failed(&error)),
            }
        }
        failed
    }

    /// One token for every question; gives the records that are complete with it.
    pub fn step(&mut self) -> Vec<Record> {
        match self.batch.step(&mut |_, _| {}) {
            Ok(finished) => finished.into_iter().filter_map(|finished| self.close(finished)).collect(),
            Err(error) => self.one_by_one(&error),
        }
    }

    fn close(&mut self, finished: Finished) -> Option<Record> {
        let pending = self.pending.remove(&finished.id)?;
        Some(complete(self.engine, pending, finished))
    }

    /// A batch fails as a whole: what was asked in it is asked again, each question alone, so that only those fail
    /// that fail by themselves.
    fn one_by_one(&mut self, error: &pressroom::Error) -> Vec<Record> {
        let pending = std::mem::take(&mut self.pending);
        let lonely = pending.len() == 1;
        let alone = |pending: Pending| match if lonely { None } else { Some(alone(self.engine, &pending)) } {
            None => pending.failed(error),
            Some(Ok(finished)) => complete(self.engine, pending, finished),
            Some(Err(error)) => pending.failed(&error),
        };
        pending.into_values().map(alone).collect()
    }
}

fn batch(engine: &Engine) -> Batch<'_> {
    Batch::new(&engine.model, engine.generation.eos_token_ids.clone())
}

fn alone(engine: &Engine, pending: &Pending) -> Result<Finished> {
    let mut batch = batch(engine);
    pending.ask(&mut batch)?;
    loop {
        if let Some(finished) = batch.step(&mut |_, _| {})?.pop() {
            return Ok(finished);
        }
    }
}

/// The record of an answer.
fn complete(engine: &Engine, pending: Pending, finished: Finished) -> Record {
    let prediction = match engine.texts.tokenizer.decode(&finished.answer.token_ids) {
        Ok(prediction) => prediction,
        Err(error) => return pending.failed(&error),
    };
    let blank = pending.blank;
    Record {
        score: blank.metric.score(&prediction, &blank.answers),
        measures: BTreeMap::from([("strict".into(), blank.metric.strict(&prediction, &blank.answers))]),
        prediction,
        token_ids: finished.answer.token_ids,
        stop_reason: Some(finished.answer.stop_reason),
        decode_s: finished.share_s,
        elapsed_s: finished.elapsed_s,
        ..blank
    }
}
