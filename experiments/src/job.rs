//! An experiment with everything that is known before its model is loaded.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use indicatif::HumanDuration;
use pressroom::Error;
use pressroom::model::{ModelFolder, Placement};
use pressroom::pipeline::{Regime, place_layers};
use pressroom::plan::{MemoryBudget, Plan, SessionPlan, session_at};
use pressroom::spec::{self, PluginSpec, Spec};
use tch::{Device, Kind};

use crate::cli::ExperimentArgs;
use crate::engine::{Engine, Texts, open_model, prepare};
use crate::exchange;
use crate::live::Live;
use crate::plugins::registry_with;
use crate::results::{
    EXPERIMENT, Identity, Key, MemoryMeter, Metrics, QUESTIONS, Record, RunFolder, SessionMetrics, Versions,
    available_memory, digest,
};
use crate::sweep::{Forecast, Memory, Planned, Rates, RunOptions, Shard, Sweep, units};
use crate::table::bytes;
use crate::task::{self, Sample};

/// Memory that a run takes on a GPU where the experiment does not say.
const GPU_MEMORY: u64 = 8 << 30;

/// An experiment, ready to run.
pub struct Job {
    /// The file with its overrides.
    text: String,
    plan: Plan,
    model: ModelFolder,
    texts: Texts,
    placement: Placement,
    kind: Kind,
    samples: Vec<Sample>,
    options: RunOptions,
    memory: Memory,
    template_sha256: Option<String>,
    side_data_sha256: BTreeMap<String, String>,
}

impl Job {
    /// Reads the experiment and its samples, of which `shard` is to be asked.
    ///
    /// # Errors
    /// Mistakes in the file, a model that is not there, samples that cannot be read.
    pub fn new(args: &ExperimentArgs, shard: Shard) -> Result<Self> {
        let text = std::fs::read_to_string(&args.file).map_err(Error::io(&args.file))?;
        let text = spec::apply_overrides(&text, &args.set)?;
        let (spec, model) = read(&text, &args.file, &args.plugin)?;
        eprint!("{}", spec.warnings);
        let plan = Plan::resolve(&spec, model.config())?;
        Self::of(text, plan, model, args.keep_going, shard)
    }

    /// One press of the experiment that `file` holds, at a ratio that it need not name.
    ///
    /// # Errors
    /// As [`Job::new`]; there is no such press, or it takes no ratio.
    pub fn of_press(file: &Path, plugins: &[PathBuf], press: &str, ratio: Option<f64>) -> Result<Self> {
        let text = std::fs::read_to_string(file).map_err(Error::io(file))?;
        let (spec, model) = read(&text, file, plugins)?;
        let mut plan = Plan::resolve(&spec, model.config())?;
        let planned = plan.sessions.iter().find(|session| session.label == press && session.ratio == ratio);
        let session = match (planned, ratio) {
            (Some(session), _) => session.clone(),
            (None, Some(ratio)) => session_at(&spec.presses, press, ratio, model.config().num_hidden_layers)?,
            (None, None) => anyhow::bail!("{} knows no press `{press}` without a ratio", file.display()),
        };
        plan.sessions = vec![session];
        Self::of(text, plan, model, true, Shard::ALL)
    }

    fn of(text: String, plan: Plan, model: ModelFolder, keep_going: bool, shard: Shard) -> Result<Self> {
        if let Some(threads) = plan.run.threads {
            tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
        }
        let facts = model.facts();
        prepare(&plan.sessions, &facts)?;
        let (placement, kind) = place_layers(&plan.model.device, model.config(), plan.model.dtype)?;
        let texts = Texts::read(&model)?;
        let samples = samples(&plan, &texts, keep_going)?;
        let (regime, raw, seed) = (plan.task.question, plan.task.raw, plan.run.seed);
        let options = RunOptions { regime, raw, seed, keep_going, shard };
        let budget = memory_budget(plan.run.memory, placement.last());
        let memory = Memory::new(model.config(), kind, budget, &plan.sessions, &samples);
        let template_sha256 = texts.template.as_ref().filter(|_| !raw).map(|template| template.sha256().to_owned());
        let side_data_sha256 = facts.side_data_sha256()?;
        Ok(Self {
            text,
            plan,
            model,
            texts,
            placement,
            kind,
            samples,
            options,
            memory,
            template_sha256,
            side_data_sha256,
        })
    }

    /// The run folder.
    pub fn output(&self) -> &Path {
        &self.plan.run.output
    }

    /// How many samples there are.
    pub fn samples(&self) -> usize {
        self.samples.len()
    }

    /// Whether presses see the question.
    pub fn regime(&self) -> Regime {
        self.options.regime
    }

    /// Measures from now on the memory of where the model will be.
    pub fn memory_meter(&self) -> MemoryMeter {
        MemoryMeter::start(&self.placement)
    }

    /// What decides the answers.
    ///
    /// # Errors
    /// A file of the model cannot be read.
    pub fn identity(&self) -> Result<Identity> {
        Ok(Identity {
            versions: Versions::of_process(),
            model_sha256: self.model.sha256()?,
            template_sha256: self.template_sha256.clone(),
            side_data_sha256: self.side_data_sha256.clone(),
            samples_sha256: digest(&self.samples)?,
            device: format!("{:?}", self.placement.last()),
            dtype: format!("{:?}", self.kind),
            plan: self.plan.to_json()?,
        })
    }

    /// The questions of one sample alone, with their selections stored. What it is part of has to be asked before.
    pub fn only(mut self, sample: usize) -> Self {
        let others = self.samples.iter_mut().enumerate().filter(|(index, _)| *index != sample);
        others.for_each(|(_, other)| other.turns.clear());
        self.plan.run.selections = true;
        self
    }

    /// What is to do besides what is `done`.
    ///
    /// # Errors
    /// A sample cannot be tokenized.
    pub fn planned(&self, done: &HashSet<Key>) -> pressroom::Result<Planned> {
        units(&self.texts, &self.plan.sessions, &self.samples, self.options, self.memory, done)
    }

    /// The same, and what it takes.
    ///
    /// # Errors
    /// A sample cannot be tokenized, or this machine cannot be measured.
    pub fn forecast(&self, done: &HashSet<Key>) -> Result<(Planned, Told)> {
        let planned = self.planned(done)?;
        let rates = Rates::measure(self.model.config(), self.kind, self.placement.last())?;
        let longest = |sample: usize, turn: usize| self.samples[sample].turns[turn].max_new_tokens;
        let forecast = Forecast::of(&planned, self.memory, rates, self.model.config(), longest);
        for (sample, turn, error) in &planned.refused {
            eprintln!("error: sample {sample}, question {turn}: {error}");
        }
        let told = Told { forecast, allowed: self.memory.budget, samples: self.samples.len(), done: done.len() };
        Ok((planned, told))
    }

    /// Loads the model and answers what is planned; the folder then holds all that is known of the run.
    ///
    /// # Errors
    /// The model cannot be loaded or fails, or the results cannot be written.
    pub fn run(self, planned: &Planned, folder: &mut RunFolder, live: &mut Live) -> Result<Vec<Record>> {
        let Self { text, plan, model, texts, placement, kind, samples, options, memory, template_sha256, .. } = self;
        folder.write_json(QUESTIONS, &exchange::questions(&samples))?;
        folder.write(EXPERIMENT, text.as_bytes())?;
        let engine = Engine::on(&model, texts, placement, kind)?;
        let selections = plan.run.selections.then(|| folder.path().to_owned());
        let sweep = Sweep { sessions: &plan.sessions, samples: &samples, options, memory, selections };
        let records = sweep.run(&engine, planned, folder, live)?;
        let session = |plan: &SessionPlan| SessionMetrics::of(&plan.label, plan.ratio, plan.positions, &records);
        let sessions = plan.sessions.iter().map(session).collect();
        folder.write_json("metrics.json", &Metrics { question: options.regime, template_sha256, sessions })?;
        Ok(records)
    }
}

/// An experiment as written, and its model.
fn read(text: &str, file: &Path, plugins: &[PathBuf]) -> Result<(Spec, ModelFolder)> {
    let file = file.display().to_string();
    let registry = registry_with(plugins, &PluginSpec::read_all(text, &file)?)?;
    let spec = Spec::parse(text, &file, &registry, &task::tasks())?;
    let model = open_model(&spec.model.path)?;
    Ok((spec, model))
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
    /// Work, bytes and seconds.
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
