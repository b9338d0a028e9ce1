//! Greedy decoding from a compressed cache.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::cache::KvCache;
use crate::error::{Error, Result};
use crate::model::{Llama, Step};
use crate::press::StepHook;

use super::session::Compressed;

/// When decoding ends.
#[derive(Clone, Debug)]
pub struct DecodeOptions {
    /// Most tokens generated.
    pub max_new_tokens: usize,
    /// Tokens that end the answer; empty: only the length does.
    pub eos_token_ids: Vec<i64>,
}

/// Why decoding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model ended its answer.
    Eos,
    /// `max_new_tokens` were generated.
    Length,
}

/// Generated tokens, the ending one included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Token ids.
    pub token_ids: Vec<i64>,
    /// Why there are no more.
    pub stop_reason: StopReason,
}

/// A question about a compressed context.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The compressed context; it stays as it is.
    pub context: &'a Compressed,
    /// The question's token ids.
    pub question: &'a [i64],
}

/// One question on its way to an answer.
struct Running {
    id: usize,
    cache: KvCache,
    /// What compresses while the answer grows.
    hook: Option<Box<dyn StepHook + Send>>,
    /// What is fed next: first the question, then the last token generated.
    feed: Vec<i64>,
    answer: Vec<i64>,
    max_new_tokens: usize,
    asked: Instant,
    share_s: f64,
}

/// An answer of a batch.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What [`Batch::ask`] gave its question.
    pub id: usize,
    /// The answer.
    pub answer: Answer,
    /// The answer's share of the batch's seconds: those of a step are divided by the tokens that each sequence fed.
    pub share_s: f64,
    /// Seconds from the question to the answer's end.
    pub elapsed_s: f64,
}

/// Questions that are answered together, all sequences in one pass per token. They come and go independently, and what
/// one answers does not depend on the others.
pub struct Batch<'m> {
    model: &'m Llama,
    eos_token_ids: Vec<i64>,
    running: Vec<Running>,
    asked: usize,
}

impl<'m> Batch<'m> {
    /// Nothing asked yet. `eos_token_ids` end an answer; without any, only its length does.
    pub fn new(model: &'m Llama, eos_token_ids: Vec<i64>) -> Self {
        Self { model, eos_token_ids, running: Vec::new(), asked: 0 }
    }

    /// Questions without an answer so far.
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Whether every question has its answer.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Adds a question, to be answered from a fork of its cache, and gives the id that its answer will bear.
    ///
    /// # Errors
    /// No token is to be generated, or there is no question; libtorch cannot allocate.
    pub fn ask(&mut self, asked: Asked<'_>, max_new_tokens: usize) -> Result<usize> {
        if max_new_tokens == 0 {
            return Err(Error::input("max_new_tokens is 0: there is nothing to generate"));
        }
        if asked.question.is_empty() {
            return Err(Error::input("a question without new tokens cannot be answered"));
        }
        let id = self.asked;
        self.running.push(Running {
            id,
            cache: asked.context.cache.fork()?,
            hook: asked.context.start(),
            feed: asked.question.to_vec(),
            answer: Vec::new(),
            max_new_tokens,
            asked: Instant::now(),
            share_s: 0.0,
        });
        self.asked += 1;
        Ok(id)
    }

    /// One token for every sequence; gives the answers that are complete with it. `on_token(id, token)` sees each.
    ///
    /// # Errors
    /// A cache is another model's, or an operation fails. Which sequence failed is not known: all are forgotten.
    pub fn step(&mut self, on_token: &mut dyn FnMut(usize, i64)) -> Result<Vec<Finished>> {
        let start = Instant::now();
        let mut running = std::mem::take(&mut self.running);
        let next = next_tokens(self.model, &mut running)?;
        let fed: usize = running.iter().map(|sequence| sequence.feed.len()).sum();
        let token_s = start.elapsed().as_secs_f64() / fed.max(1) as f64;
        let mut finished = Vec::new();
        for (mut sequence, token) in running.into_iter().zip(next) {
            on_token(sequence.id, token);
            sequence.answer.push(token);
            sequence.share_s += token_s * sequence.feed.len() as f64;
            let stop_reason = if self.eos_token_ids.contains(&token) {
                StopReason::Eos
            } else if sequence.answer.len() == sequence.max_new_tokens {
                StopReason::Length
            } else {
                sequence.feed = vec![token];
                self.running.push(sequence);
                continue;
            };
            let Running { id, answer: token_ids, share_s, asked, .. } = sequence;
            let (answer, elapsed_s) = (Answer { token_ids, stop_reason }, asked.elapsed().as_secs_f64());
            finished.push(Finished { id, answer, share_s, elapsed_s });
        }
        Ok(finished)
    }
}

/// Answers each question from a fork of its cache, all sequences together in one [`Batch`].
/// `on_token(question, id)` sees each token as it is generated. The caches stay as they are.
///
/// # Errors
/// An empty question, a cache of another model, or a failing operation.
pub fn answer(
    model: &Llama,
    asked: &[Asked<'_>],
    options: &DecodeOptions,
    on_token: &mut dyn FnMut(usize, i64),
) -> Result<Vec<Answer>> {
    let mut batch = Batch::new(model, options.eos_token_ids.clone());
    for question in asked {
        batch.ask(*question, options.max_new_tokens)?;
    }
    let mut finished = Vec::with_capacity(asked.len());
    while !batch.is_empty() {
        finished.append(&mut batch.step(on_token)?);
    }
    finished.sort_by_key(|finished| finished.id);
    Ok(finished.into_iter().map(|finished| finished.answer).collect())
}

/// Feeds every sequence and takes its likeliest next token.
fn next_tokens(model: &Llama, running: &mut [Running]) -> Result<Vec<i64>> {
    let mut last = Vec::with_capacity(running.len());
    let mut end = 0;
    for sequence in running.iter() {
        end += sequence.feed.len() as i64;
        last.push(end - 1);
    }
    let mut batch: Vec<Step<'_>> = running
        .iter_mut()
        .map(|Running { feed, cache, hook, .. }| Step {
            tokens: feed,
            cache,
            hook: hook.as_mut().map(|hook| hook.as_mut() as &mut dyn StepHook),
        })
        .collect();
    let hidden = model.forward(&mut batch)?;
    let rows = Tensor::f_from_slice(&last)?.f_to_device(hidden.device())?;
    let logits = model.logits(&hidden.f_index_select(0, &rows)?)?;
    Ok(Vec::try_from(logits.f_argmax(-1, false)?)?)
}
