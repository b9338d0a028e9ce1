//! `pressroom run`: an experiment from a TOML file.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pressroom::Error;
use pressroom::plan::{Plan, SessionPlan};
use pressroom::spec::{self, PluginSpec, Spec, TaskKind};

use super::print;
use super::table::{bytes, table};
use crate::cli::RunArgs;
use crate::engine::{Engine, open_model, prepare};
use crate::plugins::registry_with;
use crate::results::{Record, RunFolder};
use crate::runner::{RunOptions, run as run_cells};
use crate::task::{Needle, Sample, needle_samples, read_jsonl};

/// Runs `run`.
///
/// # Errors
/// Mistakes in the file, a model that cannot be loaded, samples that cannot be read, results that cannot be written.
pub fn run(args: &RunArgs) -> Result<()> {
    let text = std::fs::read_to_string(&args.file).map_err(Error::io(&args.file))?;
    let text = spec::apply_overrides(&text, &args.set)?;
    let file = args.file.display().to_string();
    let registry = registry_with(&args.plugin, &PluginSpec::read_all(&text, &file)?)?;
    let spec = Spec::parse(&text, &file, &registry)?;
    eprint!("{}", spec.warnings);
    let folder = open_model(&spec.model.path)?;
    let plan = Plan::resolve(&spec, folder.config())?;
    if let Some(threads) = plan.run.threads {
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
    }
    let output = &plan.run.output;
    let mut results = RunFolder::open(output, &plan.to_json()?)?;
    prepare(&plan.sessions, &folder.facts())?;
    let engine = Engine::load(&folder, plan.model.device, plan.model.dtype)?;
    let samples = samples(&plan, &engine)?;
    let options = RunOptions { regime: plan.task.question, raw: plan.task.raw, seed: plan.run.seed };
    let records = run_cells(&engine, &plan.sessions, &samples, options, &mut results, &progress())?;
    print(&summary(&plan.sessions, &records))?;
    report_errors(&records);
    eprintln!(
        "{} samples, question {}, positions count from the uncompressed context; {}",
        samples.len(),
        plan.task.question,
        output.join("answers.jsonl").display()
    );
    if !records.is_empty() && records.iter().all(|record| record.error.is_some()) {
        anyhow::bail!("no press could answer any sample");
    }
    Ok(())
}

fn samples(plan: &Plan, engine: &Engine) -> Result<Vec<Sample>> {
    let task = &plan.task;
    let mut samples = match &task.kind {
        TaskKind::Needle { context_tokens, samples } => {
            let needle = Needle {
                context_tokens: *context_tokens,
                samples: *samples,
                max_new_tokens: task.max_new_tokens.unwrap_or(24),
                seed: plan.run.seed,
            };
            needle_samples(needle, &engine.tokenizer)?
        }
        TaskKind::File { file, limit } => read_jsonl(file, *limit)?,
    };
    if let Some(most) = task.max_new_tokens {
        samples.iter_mut().flat_map(|sample| &mut sample.turns).for_each(|turn| turn.max_new_tokens = most);
    }
    Ok(samples)
}

/// One row per press and ratio: means over the samples that were answered.
fn summary(sessions: &[SessionPlan], records: &[Record]) -> String {
    let rows = sessions
        .iter()
        .map(|session| {
            let own: Vec<&Record> = records
                .iter()
                .filter(|record| {
                    record.press == session.label && record.ratio == session.ratio && record.error.is_none()
                })
                .collect();
            let count = own.len().max(1) as f64;
            let mean = |value: fn(&Record) -> f64| own.iter().map(|record| value(record)).sum::<f64>() / count;
            let held = mean(|record| record.cache_bytes as f64);
            let full = mean(|record| record.uncompressed_bytes as f64);
            let tokens: usize = own.iter().map(|record| record.token_ids.len()).sum();
            let seconds: f64 = own.iter().map(|record| record.decode_s).sum();
            let known = |text: String| if own.is_empty() { "failed".to_owned() } else { text };
            vec![
                session.label.clone(),
                known(format!("{:.2}", session.ratio.unwrap_or(mean(|record| record.achieved_ratio)))),
                known(format!("{:.1} %", 100.0 * mean(|record| record.score))),
                known(bytes(held as u128)),
                known(format!("{:.1} %", 100.0 * held / full)),
                known(format!("{:.2}", mean(|record| record.prefill_s))),
                known(format!("{:.1}", tokens as f64 / seconds)),
            ]
        })
        .collect();
    let header = ["press", "ratio", "accuracy", "cache bytes", "of uncompressed", "prefill s", "decode tokens/s"];
    table(&header, rows)
}

fn report_errors(records: &[Record]) {
    let mut seen = std::collections::BTreeSet::new();
    for record in records {
        if let Some(error) = &record.error
            && seen.insert(error)
        {
            eprintln!("error: sample {}, {}: {error}", record.index, record.named());
        }
    }
}

fn progress() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} answers, {eta} left") {
        bar.set_style(style);
    }
    bar
}
