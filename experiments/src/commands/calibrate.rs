//! `pressroom calibrate`: side data of a press, made for a model from texts.

use std::sync::Arc;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pressroom::Error;
use pressroom::pipeline::{PromptOptions, Question};
use pressroom::press::{Params, Registry, Scorer, SideData, Value, nearest};
use pressroom_presses::calibrate::{CALIBRATED, Text, calibration};

use super::print;
use crate::cli::CalibrateArgs;
use crate::engine::{Engine, open_model};

/// Runs `calibrate`.
///
/// # Errors
/// The press has no side data that can be made; the model or a text cannot be read; the texts are too short.
pub fn calibrate(args: &CalibrateArgs) -> Result<()> {
    args.hardware.set_threads();
    let registry = pressroom_presses::registry()?;
    if !CALIBRATED.contains(&args.press.as_str()) {
        let hint = nearest(&args.press, CALIBRATED).map(|near| format!("; did you mean `{near}`?"));
        let known = CALIBRATED.join(", ");
        anyhow::bail!(
            "`{}` cannot be calibrated{}; the presses that can are {known}",
            args.press,
            hint.unwrap_or_default()
        );
    }
    let scorer = scorer(args.scorer.as_deref(), &registry)?;
    let folder = open_model(&args.model)?;
    let facts = folder.facts();
    scorer.prepare(&facts)?;
    let output = args.output.clone().unwrap_or_else(|| SideData::home(&args.press, &facts));
    let mut texts = Vec::with_capacity(args.text.len());
    for file in &args.text {
        texts.push(std::fs::read_to_string(file).map_err(Error::io(file))?);
    }
    let engine = Engine::load(&folder, &args.hardware.device, args.dtype)?;
    let (prefix, suffix) = template(&engine)?;
    let encode = |text: &str| engine.texts.tokenizer.encode(text);
    let mut samples = Vec::new();
    for text in &texts {
        samples.extend(engine.texts.tokenizer.encode(text)?.chunks(args.tokens).map(<[i64]>::to_vec));
    }
    // The first samples of a long file say less than as many from all over the texts.
    let every = samples.len().div_ceil(args.samples).max(1);
    let samples: Vec<Vec<i64>> = samples.into_iter().step_by(every).collect();
    let mut learner = calibration(&args.press, &facts, scorer)?;
    let bar = progress(samples.len() as u64);
    for tokens in &samples {
        let text = Text { model: &engine.model, tokens, prefix: &prefix, suffix: &suffix, encode: &encode };
        learner.learn(text)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    std::fs::create_dir_all(&output).map_err(Error::io(&output))?;
    let files = learner.write(&output)?;
    let tokens: usize = samples.iter().map(Vec::len).sum();
    eprintln!("{} for {}, from {} texts of {tokens} tokens", args.press, facts.name, samples.len());
    print(&files.iter().map(|file| format!("{}\n", output.join(file).display())).collect::<String>())
}

/// What the model's template puts before and after the user's text; nothing where it has none.
fn template(engine: &Engine) -> Result<(Vec<i64>, Vec<i64>)> {
    if engine.texts.template.is_none() {
        return Ok((Vec::new(), Vec::new()));
    }
    let options = PromptOptions { room: engine.texts.room(0), ..PromptOptions::default() };
    let prompt = engine.texts.prompt("text", &[Question::default()], options).context("rendering the template")?;
    Ok((prompt.context[..prompt.prefix_tokens].to_vec(), prompt.suffix))
}

/// The scorer that a wrapper's side data is for.
fn scorer(name: Option<&str>, registry: &Registry) -> Result<Arc<dyn Scorer>> {
    let (name, params) = match name {
        Some(name) => (name, Params::new()),
        None => ("expected_attention", Params::from([("epsilon".to_owned(), Value::Number(0.02))])),
    };
    let entry = registry.find(name).with_context(|| format!("there is no press `{name}`"))?;
    Ok(entry.build(&params, Vec::new())?.into_scorer()?)
}

fn progress(samples: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(samples), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} texts, {eta} left") {
        bar.set_style(style);
    }
    bar
}
