//! Greedy decoding from a compressed cache.

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
    index: usize,
    cache: KvCache,
    /// What compresses while the answer grows.
    hook: Option<Box<dyn StepHook + Send>>,
    /// What is fed next: first the question, then the last token generated.
    feed: Vec<i64>,
    answer: Vec<i64>,
}

/// Answers each question from a fork of its cache, all sequences together in one batch per token.
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
    if options.max_new_tokens == 0 {
        return Err(Error::input("max_new_tokens is 0: there is nothing to generate"));
    }
    let start = |(index, Asked { context, question }): (usize, &Asked<'_>)| {
        let (cache, hook) = (context.cache.fork()?, context.start());
        Ok(Running { index, cache, hook, feed: question.to_vec(), answer: Vec::new() })
    };
    let mut running = asked.iter().enumerate().map(start).collect::<Result<Vec<_>>>()?;
    let mut answers: Vec<(usize, Answer)> = Vec::with_capacity(asked.len());
    while !running.is_empty() {
        let mut unfinished = Vec::with_capacity(running.len());
        let next = next_tokens(model, &mut running)?;
        for (mut sequence, id) in running.into_iter().zip(next) {
            on_token(sequence.index, id);
            sequence.answer.push(id);
            let stop_reason = if options.eos_token_ids.contains(&id) {
                StopReason::Eos
            } else if sequence.answer.len() == options.max_new_tokens {
                StopReason::Length
            } else {
                sequence.feed = vec![id];
                unfinished.push(sequence);
                continue;
            };
            answers.push((sequence.index, Answer { token_ids: sequence.answer, stop_reason }));
        }
        running = unfinished;
    }
    answers.sort_by_key(|(index, _)| *index);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
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
