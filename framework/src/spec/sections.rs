//! The sections `[model]`, `[task]`, `[sweep]` and `[run]`.

use std::path::PathBuf;

use serde::Serialize;

use super::budget::budget;
use super::report::Mistakes;
use super::table::{Table, list, text, unknown};
use crate::pipeline::Regime;
use crate::plan::{DeviceChoice, DtypeChoice, MemoryBudget};
use crate::press::Budget;

/// `[model]`: what answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSpec {
    /// A known name or a folder in Hugging Face layout.
    pub path: String,
    /// Where it runs; `cpu` unless told otherwise.
    pub device: DeviceChoice,
    /// Number format; `auto` unless told otherwise.
    pub dtype: DtypeChoice,
}

/// `[task]`: what is asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskSpec {
    /// Where contexts and questions come from.
    #[serde(flatten)]
    pub kind: TaskKind,
    /// Whether the presses see the question.
    pub question: Regime,
    /// Most tokens of an answer; `None` leaves it to the task or the file.
    pub max_new_tokens: Option<usize>,
    /// Whether contexts are used as they are, without the model's chat template.
    pub raw: bool,
}

/// Where contexts and questions come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum TaskKind {
    /// `name = "needle"`: a fact hidden in filler text.
    Needle {
        /// Length of a context, tokens.
        context_tokens: usize,
        /// Number of contexts.
        samples: usize,
    },
    /// `file = "x.jsonl"`: one context, question and answer per line.
    File {
        /// The file.
        file: PathBuf,
        /// Most lines read; `None` reads all.
        limit: Option<usize>,
    },
}

/// `[run]`: how the experiment runs and where its results go. Serialises to what decides the answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunSpec {
    /// Folder for the results.
    #[serde(skip)]
    pub output: PathBuf,
    /// Whether the uncompressed baseline is part of the run.
    #[serde(skip)]
    pub baseline: bool,
    /// Decides everything random.
    pub seed: u64,
    /// Threads of the processor; `None` leaves it to libtorch.
    #[serde(skip)]
    pub threads: Option<usize>,
    /// Memory that the run may take; `None` takes what the machine has left.
    #[serde(skip)]
    pub memory: Option<MemoryBudget>,
}

const TASKS: [&str; 1] = ["needle"];

/// Seed of a run that names none.
const DEFAULT_SEED: u32 = 42;

impl ModelSpec {
    pub(super) fn read(mut table: Table<'_>, mistakes: &mut Mistakes) -> Option<Self> {
        let path = table.require("path", "path = \"smollm2-135m-instruct\", or a model's folder", mistakes);
        let path = path.and_then(|node| text("path", node, mistakes));
        let device = table.choice("device", mistakes);
        let dtype = table.choice("dtype", mistakes);
        table.finish(mistakes);
        Some(Self { path: path?.0.to_owned(), device: device.unwrap_or_default(), dtype: dtype.unwrap_or_default() })
    }
}

impl TaskSpec {
    pub(super) fn read(mut table: Table<'_>, mistakes: &mut Mistakes) -> Option<Self> {
        let question = table.get("question").and_then(|node| text("question", node, mistakes));
        let regime = match &question {
            None | Some(("hidden", _)) => Regime::Hidden,
            Some(("visible", _)) => Regime::Visible,
            Some((other, span)) => {
                unknown(span.clone(), &format!("question `{other}`"), other, &["hidden", "visible"], mistakes);
                Regime::Hidden
            }
        };
        let max_new_tokens = count(&mut table, "max_new_tokens", mistakes);
        let raw = table.flag("raw", mistakes).unwrap_or(false);
        let kind = match (table.get("name").is_some(), table.get("file").is_some()) {
            (true, false) => builtin(&mut table, mistakes),
            (false, true) => file(&mut table, mistakes),
            (true, true) => {
                let mistake = mistakes.add(table.key_span("file"), "a task has either `name` or `file`");
                mistake.other(table.key_span("name"), "and here is its name");
                return None;
            }
            (false, false) => {
                let mistake = mistakes.add(table.span(), "[task] has neither `name` nor `file`");
                mistake.help("name = \"needle\" is built in; file = \"x.jsonl\" is yours");
                return None;
            }
        };
        table.finish(mistakes);
        Some(Self { kind: kind?, question: regime, max_new_tokens, raw })
    }
}

fn builtin(table: &mut Table<'_>, mistakes: &mut Mistakes) -> Option<TaskKind> {
    table.refuse("limit", "a built-in task has `samples`", mistakes);
    let context_tokens = count(table, "context_tokens", mistakes).unwrap_or(2048);
    let samples = count(table, "samples", mistakes).unwrap_or(50);
    let (name, span) = table.text("name", mistakes)?;
    if !TASKS.contains(&name) {
        unknown(span, &format!("task `{name}`"), name, &TASKS, mistakes);
        return None;
    }
    Some(TaskKind::Needle { context_tokens, samples })
}

fn file(table: &mut Table<'_>, mistakes: &mut Mistakes) -> Option<TaskKind> {
    table.refuse("context_tokens", "the contexts of a file are as long as they are", mistakes);
    table.refuse("samples", "the first lines of a file are taken with `limit`", mistakes);
    let limit = count(table, "limit", mistakes);
    let (file, _) = table.text("file", mistakes)?;
    Some(TaskKind::File { file: file.into(), limit })
}

/// A number of things, at least one.
fn count(table: &mut Table<'_>, key: &str, mistakes: &mut Mistakes) -> Option<usize> {
    table.whole(key, 1..=100_000_000, mistakes).map(|count| count as usize)
}

/// `[sweep] compression_ratio`.
pub(super) fn sweep(mut table: Table<'_>, mistakes: &mut Mistakes) -> Option<Vec<f64>> {
    let help = "compression_ratio = [0.25, 0.5, 0.75]";
    let node = table.require("compression_ratio", help, mistakes);
    table.finish(mistakes);
    let mut ratios: Vec<f64> = Vec::new();
    for item in list("compression_ratio", node?, mistakes)? {
        let Some(ratio) = budget(item, mistakes).and_then(Budget::as_ratio) else { continue };
        if ratios.contains(&ratio) {
            mistakes.add(item.span(), format!("the ratio {ratio} is there twice")).help("remove one of them");
        }
        ratios.push(ratio);
    }
    Some(ratios)
}

impl RunSpec {
    pub(super) fn read(mut table: Table<'_>, mistakes: &mut Mistakes) -> Option<Self> {
        let output = table.require("output", "output = \"runs/first\" is the folder for the results", mistakes);
        let output = output.and_then(|node| text("output", node, mistakes));
        let baseline = table.flag("baseline", mistakes).unwrap_or(true);
        let seed = table.whole("seed", 0..=u32::MAX, mistakes).unwrap_or(DEFAULT_SEED);
        let threads = table.whole("threads", 1..=1024, mistakes).map(|threads| threads as usize);
        let memory = table.choice("memory", mistakes);
        table.finish(mistakes);
        Some(Self { output: output?.0.into(), baseline, seed: seed.into(), threads, memory })
    }
}
