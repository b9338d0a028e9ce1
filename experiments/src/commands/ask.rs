//! `pressroom ask`: questions about a text, answered from its compressed cache.

use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use pressroom::Error;
use pressroom::cache::Quantization;
use pressroom::model::{PeakMemory, TokenStream};
use pressroom::pipeline::{
    Answer, Asked, Compressed, DecodeOptions, Prompt, PromptOptions, Question, Regime, StopReason, Truncation, answer,
    place_layers,
};
use pressroom::plan::{BASELINE, SessionPlan, sessions};
use pressroom::spec::{PluginSpec, PressSpec, Spec, Storage};
use serde::Serialize;

use super::print;
use crate::cli::AskArgs;
use crate::engine::{Engine, Texts, open_model, prepare};
use crate::plugins::registry_with;
use crate::results::{MemoryMeter, Peak};
use crate::system::of_process;
use crate::table::bytes;

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    press: String,
    ratio: Option<f64>,
    achieved_ratio: f64,
    question: Regime,
    context_tokens: usize,
    answers: Vec<AnswerReport>,
    cache: CacheReport,
    timings: Timings,
    peak_rss_bytes: Option<u64>,
    memory: Peak,
}

#[derive(Serialize)]
struct AnswerReport {
    question: String,
    text: String,
    token_ids: Vec<i64>,
    stop_reason: StopReason,
}

#[derive(Serialize)]
struct CacheReport {
    bytes: u64,
    uncompressed_bytes: u64,
    kept: Vec<Vec<i64>>,
}

#[derive(Default, Serialize)]
struct Timings {
    load_s: f64,
    prefill_s: f64,
    decode_s: f64,
    decode_tokens_per_s: f64,
}

/// Runs `ask`.
///
/// # Errors
/// Bad arguments, a model that cannot be loaded, a press that cannot compress the text.
pub fn ask(args: &AskArgs) -> Result<()> {
    args.hardware.set_threads();
    let presses = presses_of(args)?;
    let context = read_context(&args.context)?;
    let folder = open_model(&args.model)?;
    let layers = folder.config().num_hidden_layers;
    let chosen = match &presses {
        Some(presses) => one_session(sessions(presses, args.ratio.as_slice(), layers)?)?,
        None => SessionPlan::baseline(storage(args)),
    };
    prepare(std::slice::from_ref(&chosen), &folder.facts())?;
    let (placement, kind) = place_layers(&args.hardware.device, folder.config(), args.dtype)?;
    let meter = MemoryMeter::start(&placement);
    let engine = Engine::on(&folder, Texts::read(&folder)?, placement, kind)?;
    let prompt_options = PromptOptions {
        regime: if args.visible { Regime::Visible } else { Regime::Hidden },
        raw: args.raw,
        max_context_length: args.max_context_length,
        room: engine.texts.room(args.max_new_tokens),
        truncation: Truncation::End,
    };
    let mut report = Report {
        model: engine.name.clone(),
        press: chosen.label.clone(),
        ratio: chosen.ratio,
        achieved_ratio: 0.0,
        question: prompt_options.regime,
        context_tokens: 0,
        answers: Vec::new(),
        cache: CacheReport { bytes: 0, uncompressed_bytes: 0, kept: Vec::new() },
        timings: Timings { load_s: engine.load_s, ..Timings::default() },
        peak_rss_bytes: None,
        memory: Peak { predicted: 0, measured: None },
    };
    let questions: Vec<Question> = args
        .question
        .iter()
        .map(|text| Question { text: text.clone(), answer_prefix: args.answer_prefix.clone() })
        .collect();
    // A visible question is part of what is compressed, so each has a context of its own.
    let rounds: Vec<&[Question]> = if args.visible { questions.chunks(1).collect() } else { vec![&questions] };
    for round in rounds {
        let prompt = engine.texts.prompt(&context, round, prompt_options)?;
        if args.show_prompt {
            eprintln!("{}", prompt.rendered);
        }
        let start = Instant::now();
        let compressed = engine.compress(&prompt, &[&chosen.pipeline], args.seed)?.remove(0)?;
        report.timings.prefill_s += start.elapsed().as_secs_f64();
        let cache = &compressed.cache;
        report.achieved_ratio = compressed.achieved_ratio(prompt.context.len());
        report.context_tokens = prompt.context.len();
        report.cache = CacheReport {
            bytes: cache.bytes() as u64,
            uncompressed_bytes: engine.uncompressed_bytes(prompt.context.len()),
            kept: cache.lengths(),
        };
        decode(args, &engine, &compressed, &prompt, round, &mut report)?;
    }
    let generated: usize = report.answers.iter().map(|answer| answer.token_ids.len()).sum();
    report.timings.decode_tokens_per_s = generated as f64 / report.timings.decode_s.max(f64::MIN_POSITIVE);
    report.peak_rss_bytes = of_process("VmHWM");
    let kept = 1.0 - report.achieved_ratio;
    let predicted = PeakMemory::of_prefill(folder.config(), kind, report.context_tokens as u64, kept).total();
    report.memory = meter.beside(u64::try_from(predicted)?);
    if args.json {
        return print(&format!("{}\n", serde_json::to_string(&report)?));
    }
    eprintln!(
        "{}, {} at ratio {:.2}: {} context tokens in {} of {}; prefill {:.2} s, decode {:.1} tokens/s; {}",
        report.model,
        report.press,
        report.ratio.unwrap_or(report.achieved_ratio),
        report.context_tokens,
        bytes(u128::from(report.cache.bytes)),
        bytes(u128::from(report.cache.uncompressed_bytes)),
        report.timings.prefill_s,
        report.timings.decode_tokens_per_s,
        report.memory,
    );
    Ok(())
}

/// Answers a round of questions: together for `--json`, one after another and streamed for people.
fn decode(
    args: &AskArgs,
    engine: &Engine,
    context: &Compressed,
    prompt: &Prompt,
    round: &[Question],
    report: &mut Report,
) -> Result<()> {
    let eos_token_ids = if args.ignore_eos { Vec::new() } else { engine.generation.eos_token_ids.clone() };
    let options = DecodeOptions { max_new_tokens: args.max_new_tokens, eos_token_ids };
    let start = Instant::now();
    let answers: Vec<Answer> = if args.json {
        let asked: Vec<Asked<'_>> = prompt.questions.iter().map(|question| Asked { context, question }).collect();
        answer(&engine.model, &asked, &options, &mut |_, _| {})?
    } else {
        let mut answers = Vec::new();
        for (question, ids) in round.iter().zip(&prompt.questions) {
            if std::io::stdout().is_terminal() || args.question.len() > 1 {
                print(&format!("{}\n", question.text.trim()))?;
            }
            let mut stream = engine.texts.tokenizer.stream();
            answers.extend(answer(&engine.model, &[Asked { context, question: ids }], &options, &mut |_, id| {
                show(&mut stream, id)
            })?);
            print("\n")?;
        }
        answers
    };
    report.timings.decode_s += start.elapsed().as_secs_f64();
    for (question, answer) in round.iter().zip(answers) {
        report.answers.push(AnswerReport {
            question: question.text.clone(),
            text: engine.texts.tokenizer.decode(&answer.token_ids)?,
            token_ids: answer.token_ids,
            stop_reason: answer.stop_reason,
        });
    }
    Ok(())
}

/// Shows a token as it comes. A reader that has gone away must not end the answer half way.
fn show(stream: &mut TokenStream<'_>, id: i64) {
    if let Ok(text) = stream.push(id) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// The presses that the arguments name; `None` where nothing is compressed.
fn presses_of(args: &AskArgs) -> Result<Option<Vec<PressSpec>>> {
    if let Some(file) = &args.pipeline {
        let text = std::fs::read_to_string(file).map_err(Error::io(file))?;
        let name = file.display().to_string();
        let registry = registry_with(&args.plugin, &PluginSpec::read_all(&text, &name)?)?;
        let presses = Spec::parse_pipeline(&text, &name, &registry)?;
        if args.ratio.is_some() && !presses.iter().any(PressSpec::takes_ratio) {
            anyhow::bail!("--ratio changes nothing: {} sets its own compression_ratio", file.display());
        }
        return Ok(Some(presses));
    }
    match (args.press.as_deref().filter(|name| *name != BASELINE), args.ratio) {
        (Some(name), ratio) => {
            let mut press = PressSpec::named(name, ratio, &registry_with(&args.plugin, &[])?)?;
            press.caches = vec![storage(args)];
            Ok(Some(vec![press]))
        }
        (None, Some(_)) => anyhow::bail!("--ratio needs a press: add --press NAME"),
        (None, None) => Ok(None),
    }
}

/// How the arguments say that the cache is stored.
fn storage(args: &AskArgs) -> Storage {
    args.cache_bits.map(Quantization::of)
}

fn one_session(mut sessions: Vec<SessionPlan>) -> Result<SessionPlan> {
    match (sessions.pop(), sessions.len()) {
        (Some(session), 0) => Ok(session),
        (_, others) => {
            anyhow::bail!("`ask` uses one press and the file has {}; `pressroom run` compares several", others + 1)
        }
    }
}

fn read_context(source: &str) -> Result<String> {
    if source == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("reading the context from standard input")?;
        return Ok(text);
    }
    Ok(std::fs::read_to_string(Path::new(source)).map_err(Error::io(source))?)
}
