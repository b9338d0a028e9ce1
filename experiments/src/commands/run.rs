//! `pressroom run`: an experiment from a TOML file.

use anyhow::Result;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pressroom::Error;
use pressroom::pipeline::place_layers;
use pressroom::plan::{MemoryBudget, Plan, SessionPlan};
use pressroom::spec::{self, PluginSpec, Spec};
use tch::Device;

use super::print;
use crate::cli::RunArgs;
use crate::engine::{Engine, Texts, open_model, prepare};
use crate::plugins::registry_with;
use crate::report::{Run, compare, terminal};
use crate::results::{
    Identity, Metrics, Record, RunFolder, SessionMetrics, Versions, available_memory, digest, finished_in,
};
use crate::sweep::{Forecast, Memory, Rates, RunOptions, Shard, Sweep, units};
use crate::table::bytes;
use crate::task::{self, Sample};

/// Memory that a run takes on a GPU where the experiment does not say.
const GPU_MEMORY: u64 = 8 << 30;

/// Runs `run`.
///
/// # Errors
/// Mistakes in the file, a model that cannot be loaded, samples that cannot be read, results that cannot be written.
pub fn run(args: &RunArgs) -> Result<()> {
    let text = std::fs::read_to_string(&args.file).map_err(Error::io(&args.file))?;
    let text = spec::apply_overrides(&text, &args.set)?;
    let file = args.file.display().to_string();
    let registry = registry_with(&args.plugin, &PluginSpec::read_all(&text, &file)?)?;
    let spec = Spec::parse(&text, &file, &registry, &task::tasks())?;
    eprint!("{}", spec.warnings);
    let model = open_model(&spec.model.path)?;
    let plan = Plan::resolve(&spec, model.config())?;
    if let Some(threads) = plan.run.threads {
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
    }
    prepare(&plan.sessions, &model.facts())?;
    let (placement, kind) = place_layers(&plan.model.device, model.config(), plan.model.dtype)?;
    let device = placement.last();
    let texts = Texts::read(&model)?;
    let samples = samples(&plan, &texts, args.keep_going)?;
    let task = &plan.task;
    let shard = args.shard.unwrap_or(Shard::ALL);
    let folder = match args.shard {
        Some(shard) => plan.run.output.join(format!("shard-{shard}")),
        None => plan.run.output.clone(),
    };
    let (regime, raw, seed) = (task.question, task.raw, plan.run.seed);
    let options = RunOptions { regime, raw, seed, keep_going: args.keep_going, shard };
    let memory = Memory::new(model.config(), kind, memory_budget(plan.run.memory, device));
    let template_sha256 = texts.template.as_ref().filter(|_| !task.raw).map(|template| template.sha256().to_owned());
    let (output, done) = if args.dry_run {
        (None, finished_in(&folder)?)
    } else {
        let identity = Identity {
            versions: Versions::of_process(),
            model_sha256: model.sha256()?,
            template_sha256: template_sha256.clone(),
            samples_sha256: digest(&samples)?,
            device: format!("{device:?}"),
            dtype: format!("{kind:?}"),
            plan: plan.to_json()?,
        };
        let folder = RunFolder::open(&folder, &identity)?;
        let done = folder.finished_keys();
        (Some(folder), done)
    };
    let planned = units(&texts, &plan.sessions, &samples, options, memory, &done)?;
    let rates = Rates::measure(model.config(), kind, device)?;
    let longest = |sample: usize, turn: usize| samples[sample].turns[turn].max_new_tokens;
    let forecast = Forecast::of(&planned, memory, rates, model.config(), longest);
    eprintln!("{}", told(&forecast, memory, samples.len(), done.len()));
    for (sample, turn, error) in &planned.refused {
        eprintln!("error: sample {sample}, question {turn}: {error}");
    }
    let Some(mut folder) = output else { return Ok(()) };
    let engine = Engine::on(&model, texts, placement, kind)?;
    let selections = plan.run.selections.then(|| folder.path().to_owned());
    let sweep = Sweep { sessions: &plan.sessions, samples: &samples, options, memory, selections };
    let records = sweep.run(&engine, &planned, &mut folder, &progress())?;
    let session = |plan: &SessionPlan| SessionMetrics::of(&plan.label, plan.ratio, plan.positions, &records);
    let sessions: Vec<SessionMetrics> = plan.sessions.iter().map(session).collect();
    folder.write_json("metrics.json", &Metrics { question: task.question, template_sha256, sessions })?;
    print(&terminal::text(&compare(&[Run::read(folder.path())?])))?;
    report_errors(&records);
    eprintln!(
        "{} samples, question {}, positions count from the uncompressed context unless a press moves keys; {}",
        samples.len(),
        task.question,
        folder.path().join("answers.jsonl").display()
    );
    if !records.is_empty() && records.iter().all(|record| record.error.is_some()) {
        anyhow::bail!("no press could answer any sample");
    }
    Ok(())
}

/// What the experiment allows, or most of what the machine has left.
fn memory_budget(given: Option<MemoryBudget>, device: Device) -> u64 {
    match given {
        Some(MemoryBudget(bytes)) => bytes,
        None if device.is_cuda() => GPU_MEMORY,
        None => available_memory().map_or(GPU_MEMORY, |bytes| bytes / 10 * 8),
    }
}

/// The plan, in two lines.
fn told(forecast: &Forecast, memory: Memory, samples: usize, done: usize) -> String {
    let Forecast { prefills, sessions, answers, prefill_tokens, peak_bytes, seconds } = forecast;
    let finished = if done > 0 { format!(", {done} answers are there already") } else { String::new() };
    format!(
        "plan: {samples} samples{finished}; {prefills} prefills ({prefill_tokens} tokens) serve {sessions} sessions, \
         which answer {answers} questions\n      memory about {} of {} allowed; at most about {} on this machine",
        bytes(u128::from(*peak_bytes)),
        bytes(u128::from(memory.budget)),
        HumanDuration(std::time::Duration::from_secs_f64(seconds.ceil()))
    )
}

/// The samples of the task; those that cannot be read end the run, or are told and left out.
fn samples(plan: &Plan, texts: &Texts, keep_going: bool) -> pressroom::Result<Vec<Sample>> {
    let samples = task::samples(&plan.task, task::Setting { tokenizer: &texts.tokenizer, seed: plan.run.seed })?;
    if keep_going { task::readable(samples, |fault| eprintln!("error: {fault}")) } else { task::all(samples) }
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
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} answers, {per_sec}, {eta} left") {
        bar.set_style(style);
    }
    bar
}
