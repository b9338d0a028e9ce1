//! `pressroom run`: an experiment from a TOML file.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pressroom::Error;
use pressroom::model::{ModelFolder, Placement};
use pressroom::pipeline::place_layers;
use pressroom::plan::{MemoryBudget, Plan, SessionPlan};
use pressroom::spec::{self, PluginSpec, Spec};
use tch::{Device, Kind};

use super::print;
use crate::cli::{ExperimentArgs, RunArgs};
use crate::engine::{Engine, Texts, open_model, prepare};
use crate::exchange;
use crate::plugins::registry_with;
use crate::report::{Run, compare, terminal};
use crate::results::{
    Identity, Key, MemoryMeter, Metrics, Record, RunFolder, SessionMetrics, Versions, available_memory, digest,
    finished_anywhere, finished_in, open_attempt,
};
use crate::sweep::{Forecast, Memory, Planned, Rates, RunOptions, Shard, Sweep, units};
use crate::table::bytes;
use crate::task::{self, Sample};

/// Memory that a run takes on a GPU where the experiment does not say.
const GPU_MEMORY: u64 = 8 << 30;

/// Runs `run`.
///
/// # Errors
/// Mistakes in the file, a model that cannot be loaded, samples that cannot be read, results that cannot be written.
pub fn run(args: &RunArgs) -> Result<()> {
    let job = Job::new(&args.experiment, args.shard.unwrap_or(Shard::ALL))?;
    if args.dry_run {
        let finished = match args.shard {
            Some(_) => finished_anywhere(job.output())?,
            None => finished_in(job.output())?,
        };
        eprintln!("{}", job.forecast(&finished)?.1);
        return Ok(());
    }
    let identity = job.identity()?;
    let mut folder = match args.shard {
        Some(shard) => open_attempt(job.output(), &shard.to_string(), &identity)?,
        None => RunFolder::open(job.output(), &identity)?,
    };
    folder.write_json(exchange::QUESTIONS, &exchange::questions(&job.samples))?;
    // A part goes on where any worker of any part of this run is.
    let finished = match args.shard {
        Some(_) => finished_anywhere(job.output())?,
        None => folder.finished_keys(),
    };
    let (planned, told) = job.forecast(&finished)?;
    eprintln!("{told}");
    let Job { plan, model, texts, placement, kind, samples, options, memory, template_sha256 } = job;
    let meter = MemoryMeter::start(&placement);
    let engine = Engine::on(&model, texts, placement, kind)?;
    let selections = plan.run.selections.then(|| folder.path().to_owned());
    let sweep = Sweep { sessions: &plan.sessions, samples: &samples, options, memory, selections };
    let records = sweep.run(&engine, &planned, &mut folder, &progress())?;
    let session = |plan: &SessionPlan| SessionMetrics::of(&plan.label, plan.ratio, plan.positions, &records);
    let sessions: Vec<SessionMetrics> = plan.sessions.iter().map(session).collect();
    folder.write_json("metrics.json", &Metrics { question: options.regime, template_sha256, sessions })?;
    let peak = meter.beside(told.forecast.peak_bytes);
    folder.write_json("memory.json", &peak)?;
    print(&terminal::text(&compare(&[Run::read(folder.path())?])))?;
    report_errors(&records);
    eprintln!(
        "{} samples, {peak}, question {}, positions count from the uncompressed context unless a press moves keys; {}",
        samples.len(),
        options.regime,
        folder.path().join("answers.jsonl").display()
    );
    if !records.is_empty() && records.iter().all(|record| record.error.is_some()) {
        anyhow::bail!("no press could answer any sample");
    }
    Ok(())
}

/// An experiment with everything that is known before its model is loaded.
pub struct Job {
    plan: Plan,
    model: ModelFolder,
    texts: Texts,
    placement: Placement,
    kind: Kind,
    samples: Vec<Sample>,
    options: RunOptions,
    memory: Memory,
    template_sha256: Option<String>,
}

impl Job {
    /// Reads the experiment and its samples, of which `shard` is to be asked.
    ///
    /// # Errors
    /// Mistakes in the file, a model that is not there, samples that cannot be read.
    pub fn new(args: &ExperimentArgs, shard: Shard) -> Result<Self> {
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
        let texts = Texts::read(&model)?;
        let samples = samples(&plan, &texts, args.keep_going)?;
        let (regime, raw, seed) = (plan.task.question, plan.task.raw, plan.run.seed);
        let options = RunOptions { regime, raw, seed, keep_going: args.keep_going, shard };
        let budget = memory_budget(plan.run.memory, placement.last());
        let memory = Memory::new(model.config(), kind, budget, &plan.sessions, &samples);
        let template_sha256 = texts.template.as_ref().filter(|_| !raw).map(|template| template.sha256().to_owned());
        Ok(Self { plan, model, texts, placement, kind, samples, options, memory, template_sha256 })
    }

    /// The run folder.
    pub fn output(&self) -> &Path {
        &self.plan.run.output
    }

    fn identity(&self) -> Result<Identity> {
        Ok(Identity {
            versions: Versions::of_process(),
            model_sha256: self.model.sha256()?,
            template_sha256: self.template_sha256.clone(),
            samples_sha256: digest(&self.samples)?,
            device: format!("{:?}", self.placement.last()),
            dtype: format!("{:?}", self.kind),
            plan: self.plan.to_json()?,
        })
    }

    /// What is to do besides what is `done`, and what it takes.
    ///
    /// # Errors
    /// A sample cannot be tokenized, or this machine cannot be measured.
    pub fn forecast(&self, done: &HashSet<Key>) -> Result<(Planned, Told)> {
        let planned = units(&self.texts, &self.plan.sessions, &self.samples, self.options, self.memory, done)?;
        let rates = Rates::measure(self.model.config(), self.kind, self.placement.last())?;
        let longest = |sample: usize, turn: usize| self.samples[sample].turns[turn].max_new_tokens;
        let forecast = Forecast::of(&planned, self.memory, rates, self.model.config(), longest);
        for (sample, turn, error) in &planned.refused {
            eprintln!("error: sample {sample}, question {turn}: {error}");
        }
        let told = Told { forecast, allowed: self.memory.budget, samples: self.samples.len(), done: done.len() };
        Ok((planned, told))
    }
}

/// What the experiment allows, or most of what the machine has left.
fn memory_budget(given: Option<MemoryBudget>, device: Device) -> u64 {
    match given {
        Some(MemoryBudget(bytes)) => bytes,
        None if device.is_cuda() => GPU_MEMORY,
        None => available_memory().map_or(GPU_MEMORY, |bytes| bytes / 10 * 8),
    }
}

/// What a run is going to take; it shows as two lines.
pub struct Told {
    pub forecast: Forecast,
    allowed: u64,
    samples: usize,
    done: usize,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Forecast { prefills, sessions, answers, prefill_tokens, peak_bytes, seconds } = &self.forecast;
        let finished = if self.done > 0 { format!(", {} answers are there already", self.done) } else { String::new() };
        write!(
            f,
            "plan: {} samples{finished}; {prefills} prefills ({prefill_tokens} tokens) serve {sessions} sessions, \
             which answer {answers} questions\n      memory about {} of {} allowed; at most about {} on this machine",
            self.samples,
            bytes(u128::from(*peak_bytes)),
            bytes(u128::from(self.allowed)),
            HumanDuration(Duration::from_secs_f64(seconds.ceil()))
        )
    }
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
