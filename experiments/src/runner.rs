//! Runs an experiment: one prefill per sample serves every press and ratio.

use std::time::Instant;

use indicatif::ProgressBar;
use pressroom::pipeline::{Asked, Compressed, DecodeOptions, PromptOptions, Question, Regime, answer};
use pressroom::plan::SessionPlan;
use pressroom::press::Pipeline;
use pressroom::{Error, Result};

use crate::engine::Engine;
use crate::results::{Record, RunFolder};
use crate::task::{Sample, Turn};

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

/// Answers every question of every sample with every session and writes each answer as soon as it is known. Answers
/// that `folder` holds already are not computed again. Gives all records, in the order of samples, sessions and turns.
///
/// # Errors
/// A sample cannot be tokenized or prefilled, or the results cannot be written. A press that fails is a record
/// with an error for every question.
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
    let turns: usize = samples.iter().map(|sample| sample.turns.len()).sum();
    progress.set_length((turns * sessions.len()) as u64);
    progress.set_position(records.len() as u64);
    for (index, sample) in samples.iter().enumerate() {
        let due =
            |plan: &SessionPlan, turn| !done.contains(&(plan.label.clone(), plan.ratio.map(f64::to_bits), index, turn));
        let plans: Vec<&SessionPlan> =
            sessions.iter().filter(|plan| (0..sample.turns.len()).any(|turn| due(plan, turn))).collect();
        if plans.is_empty() {
            continue;
        }
        let blame = |error: Error| Error::Input(format!("sample {index}: {error}"));
        let room = engine.room(sample.turns.iter().map(|turn| turn.max_new_tokens).max().unwrap_or(0));
        let how = PromptOptions { regime: options.regime, raw: options.raw, max_context_length: None, room };
        let prompt = engine.prompt(&sample.context, &questions(sample), how).map_err(blame)?;
        let start = Instant::now();
        let pipelines: Vec<&Pipeline> = plans.iter().map(|plan| &plan.pipeline).collect();
        let outcomes = engine.compress(&prompt, &pipelines, options.seed.wrapping_add(index as u64)).map_err(blame)?;
        let prefill_s = start.elapsed().as_secs_f64();
        for (plan, outcome) in plans.into_iter().zip(outcomes) {
            let outcome = outcome.map_err(|error| error.to_string());
            for (turn, asked) in sample.turns.iter().enumerate().filter(|(turn, _)| due(plan, *turn)) {
                let blank = Record {
                    press: plan.label.clone(),
                    ratio: plan.ratio,
                    index,
                    turn,
                    task: sample.task.clone(),
                    question: options.regime,
                    prediction: String::new(),
                    token_ids: Vec::new(),
                    answers: asked.answers.clone(),
                    metric: sample.metric,
                    score: 0.0,
                    facets: sample.facets.clone(),
                    stop_reason: None,
                    context_tokens: prompt.context.len(),
                    achieved_ratio: 0.0,
                    cache_bytes: 0,
                    uncompressed_bytes: engine.uncompressed_bytes(prompt.context.len()),
                    prefill_s,
                    decode_s: 0.0,
                    error: None,
                };
                let answered = match &outcome {
                    Ok(context) => finish(engine, asked, context, &prompt.questions[turn], blank.clone())
                        .map_err(|error| error.to_string()),
                    Err(error) => Err(error.clone()),
                };
                let record = answered.unwrap_or_else(|error| Record { error: Some(error), ..blank });
                folder.append(&record)?;
                progress.inc(1);
                records.push(record);
            }
        }
    }
    progress.finish_and_clear();
    let order =
        |record: &Record| sessions.iter().position(|plan| plan.label == record.press && plan.ratio == record.ratio);
    records.sort_by_key(|record| (record.index, order(record), record.turn));
    Ok(records)
}

fn questions(sample: &Sample) -> Vec<Question> {
    let question = |turn: &Turn| Question { text: turn.question.clone(), answer_prefix: turn.answer_prefix.clone() };
    sample.turns.iter().map(question).collect()
}

/// Decodes one answer and scores it.
fn finish(engine: &Engine, turn: &Turn, context: &Compressed, question: &[i64], blank: Record) -> Result<Record> {
    let options =
        DecodeOptions { max_new_tokens: turn.max_new_tokens, eos_token_ids: engine.generation.eos_token_ids.clone() };
    let start = Instant::now();
    let mut answers = answer(&engine.model, &[Asked { context, question }], &options, &mut |_, _| {})?;
    let decode_s = start.elapsed().as_secs_f64();
    let answer = answers.pop().ok_or_else(|| Error::input("a question was left without an answer"))?;
    let prediction = engine.tokenizer.decode(&answer.token_ids)?;
    Ok(Record {
        score: blank.metric.score(&prediction, &blank.answers),
        prediction,
        token_ids: answer.token_ids,
        stop_reason: Some(answer.stop_reason),
        achieved_ratio: context.achieved_ratio(blank.context_tokens),
        cache_bytes: context.cache.bytes() as u64,
        decode_s,
        ..blank
    })
}
