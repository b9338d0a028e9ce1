//! Runs an experiment: one prefill per sample serves every press and ratio.

use std::time::Instant;

use indicatif::ProgressBar;
use pressroom::pipeline::{Asked, Compressed, DecodeOptions, PromptOptions, Question, Regime, answer};
use pressroom::plan::SessionPlan;
use pressroom::press::Pipeline;
use pressroom::{Error, Result};

use crate::engine::Engine;
use crate::results::{Record, RunFolder};
use crate::task::{Sample, string_match};

/// What every sample of a run shares.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// Whether presses see the question.
    pub regime: Regime,
    /// Use contexts as they are, without the chat template.
    pub raw: bool,
    /// Seed of random presses.
    pub seed: u64,
}

/// Answers every sample with every session and writes each answer as soon as it is known. Answers that `folder` holds
/// already are not computed again. Gives all records, in the order of samples and sessions.
///
/// # Errors
/// A sample cannot be tokenized or prefilled, or the results cannot be written. A press that fails is a record
/// with an error.
pub fn run(
    engine: &Engine,
    sessions: &[SessionPlan],
    samples: &[Sample],
    options: RunOptions,
    folder: &mut RunFolder,
    progress: &ProgressBar,
) -> Result<Vec<Record>> {
    let done = folder.finished_keys();
    let mut records = folder.finished().to_vec();
    progress.set_length((samples.len() * sessions.len()) as u64);
    progress.set_position(records.len() as u64);
    for (index, sample) in samples.iter().enumerate() {
        let due: Vec<&SessionPlan> = sessions
            .iter()
            .filter(|plan| !done.contains(&(plan.label.clone(), plan.ratio.map(f64::to_bits), index)))
            .collect();
        if due.is_empty() {
            continue;
        }
        let blame = |error: Error| Error::Input(format!("sample {index}: {error}"));
        let asked = Question { text: sample.question.clone(), answer_prefix: sample.answer_prefix.clone() };
        let room = engine.room(sample.max_new_tokens);
        let how = PromptOptions { regime: options.regime, raw: options.raw, max_context_length: None, room };
        let prompt = engine.prompt(&sample.context, &[asked], how).map_err(blame)?;
        let start = Instant::now();
        let pipelines: Vec<&Pipeline> = due.iter().map(|plan| &plan.pipeline).collect();
        let outcomes = engine.compress(&prompt, &pipelines, options.seed.wrapping_add(index as u64)).map_err(blame)?;
        let prefill_s = start.elapsed().as_secs_f64();
        for (plan, outcome) in due.into_iter().zip(outcomes) {
            let blank = Record {
                press: plan.label.clone(),
                ratio: plan.ratio,
                index,
                task: sample.task.clone(),
                question: options.regime,
                prediction: String::new(),
                token_ids: Vec::new(),
                score: 0.0,
                stop_reason: None,
                context_tokens: prompt.context.len(),
                achieved_ratio: 0.0,
                cache_bytes: 0,
                uncompressed_bytes: engine.uncompressed_bytes(prompt.context.len()),
                prefill_s,
                decode_s: 0.0,
                error: None,
            };
            let record = finish(engine, sample, outcome, &prompt.questions[0], blank.clone())
                .unwrap_or_else(|error| Record { error: Some(error.to_string()), ..blank });
            folder.append(&record)?;
            progress.inc(1);
            records.push(record);
        }
    }
    progress.finish_and_clear();
    let order =
        |record: &Record| sessions.iter().position(|plan| plan.label == record.press && plan.ratio == record.ratio);
    records.sort_by_key(|record| (record.index, order(record)));
    Ok(records)
}

/// Decodes one answer and scores it.
fn finish(
    engine: &Engine,
    sample: &Sample,
    outcome: Result<Compressed>,
    question: &[i64],
    blank: Record,
) -> Result<Record> {
    let context = outcome?;
    let cache_bytes = context.cache.bytes() as u64;
    let achieved_ratio = context.achieved_ratio(blank.context_tokens);
    let options =
        DecodeOptions { max_new_tokens: sample.max_new_tokens, eos_token_ids: engine.generation.eos_token_ids.clone() };
    let start = Instant::now();
    let mut answers = answer(&engine.model, &[Asked { context: &context, question }], &options, &mut |_, _| {})?;
    let decode_s = start.elapsed().as_secs_f64();
    let answer = answers.pop().ok_or_else(|| Error::input("a question was left without an answer"))?;
    let prediction = engine.tokenizer.decode(&answer.token_ids)?;
    let score = string_match(&prediction, &sample.answers);
    let stop_reason = Some(answer.stop_reason);
    Ok(Record {
        prediction,
        token_ids: answer.token_ids,
        score,
        stop_reason,
        achieved_ratio,
        cache_bytes,
        decode_s,
        ..blank
    })
}
