//! What is asked of a model: tasks by name, their samples, and how answers are scored.

mod continuation;
mod data;
mod haystack;
mod instructions;
mod metric;
mod needle;
mod prose;
mod synthetic;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod unlike;

use std::collections::BTreeMap;

use pressroom::model::TextTokenizer;
use pressroom::pipeline::Truncation;
use pressroom::press::Params;
use pressroom::spec::{TaskInfo, TaskSpec};
use pressroom::{Error, Result};
use serde::Serialize;

pub use metric::Metric;

/// Numbers that place a sample within its task, such as the depth of a needle: what reports group by.
pub type Facets = BTreeMap<String, f64>;

/// One context and what is asked about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// The text that is compressed.
    pub context: String,
    /// The questions, each answered from the same compressed context.
    pub turns: Vec<Turn>,
    /// Name of the task or subtask.
    pub task: String,
    /// Where it stands within its task.
    pub facets: Facets,
    /// What a context that is too long loses.
    pub truncation: Truncation,
}

/// One question and the answers that count as right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Turn {
    /// What is asked.
    pub question: String,
    /// How the answer begins; given to the model.
    pub answer_prefix: String,
    /// The right answers, as the metric takes them.
    pub answers: Vec<String>,
    /// Most tokens of an answer.
    pub max_new_tokens: usize,
    /// How the answer is scored.
    pub metric: Metric,
}

impl Turn {
    /// Whether its answer is a continuation that is measured, not decoded.
    pub fn is_continuation(&self) -> bool {
        self.metric == Metric::Likelihood
    }
}

/// The samples of a task in their order; what could not be read is an error in its place.
pub type Samples = Vec<Result<Sample>>;

/// What samples are made with.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// Counts the tokens of a context.
    pub tokenizer: &'a TextTokenizer,
    /// Decides everything random.
    pub seed: u64,
}

/// A task that `[task]` can name.
struct Entry {
    info: TaskInfo,
    samples: fn(&Params, Setting<'_>) -> Result<Samples>,
}

/// Declares a task: the struct of its parameters, documented, and its [`Entry`]. Its `samples` are written beside it.
macro_rules! task {
    ($(#[doc = $doc:literal])+ $name:literal $type:ident { $($params:tt)* }) => {
        pressroom::parameters! { $(#[doc = $doc])+ "task" $name $type { $($params)* } }

        impl $type {
            pub(in crate::task) fn entry() -> $crate::task::Entry {
                $crate::task::Entry {
                    info: pressroom::spec::TaskInfo {
                        name: $name.into(),
                        doc: pressroom::press::dedent(&[$($doc),+]),
                        params: Self::parameters(),
                    },
                    samples: |params, setting| Self::from_params(params)?.samples(setting),
                }
            }
        }
    };
}
use task;

/// All tasks: adding one is its file and its line here.
fn entries() -> Vec<Entry> {
    vec![
        data::File::entry(),
        needle::Needle::entry(),
        unlike::Unlike::entry(),
        instructions::Instructions::entry(),
        synthetic::Synthetic::entry(),
        continuation::Continuation::entry(),
        data::Ruler::entry(),
        data::LongBench::entry(),
        data::LongBenchE::entry(),
        data::LongBenchV2::entry(),
        data::InfiniteBench::entry(),
        data::Loogle::entry(),
        data::ZeroScrolls::entry(),
        data::ScBench::entry(),
        data::Aime25::entry(),
        data::Math500::entry(),
    ]
}

/// Descriptions of all tasks.
pub fn tasks() -> Vec<TaskInfo> {
    entries().into_iter().map(|entry| entry.info).collect()
}

/// The samples that `[task]` asks for.
///
/// # Errors
/// The task is unknown, a file is missing or as a whole unreadable; a bad row of a file is an error in its place.
pub fn samples(spec: &TaskSpec, setting: Setting<'_>) -> Result<Samples> {
    let entry = entries().into_iter().find(|entry| entry.info.name == spec.name);
    let entry = entry.ok_or_else(|| Error::input(format!("there is no task `{}`", spec.name)))?;
    let mut samples = (entry.samples)(&spec.params, setting)?;
    if let Some(most) = spec.max_new_tokens {
        samples.iter_mut().flatten().flat_map(|sample| &mut sample.turns).for_each(|turn| {
            if !turn.is_continuation() {
                turn.max_new_tokens = most;
            }
        });
    }
    Ok(samples)
}

/// The samples that could be read, in their order; `fault` is told what is wrong with the others.
///
/// # Errors
/// None could be read.
pub fn readable(samples: Samples, mut fault: impl FnMut(&Error)) -> Result<Vec<Sample>> {
    let good: Vec<Sample> = samples.into_iter().filter_map(|sample| sample.inspect_err(&mut fault).ok()).collect();
    if good.is_empty() { Err(Error::input("no sample can be read")) } else { Ok(good) }
}

/// Most of the faults that are told at once.
const TOLD: usize = 20;

/// All samples, or what is wrong with those that could not be read, told at once.
///
/// # Errors
/// At least one sample could not be read.
pub fn all(samples: Samples) -> Result<Vec<Sample>> {
    let mut faults = Vec::new();
    let good: Vec<Sample> = samples.into_iter().filter_map(|sample| sample.map_err(|f| faults.push(f)).ok()).collect();
    match &faults[..] {
        [] => Ok(good),
        [fault] => Err(Error::input(fault.to_string())),
        many => {
            let told: Vec<String> = many.iter().take(TOLD).map(ToString::to_string).collect();
            let more = many.len().saturating_sub(TOLD);
            let rest = if more > 0 { format!("\nand {more} more") } else { String::new() };
            Err(Error::input(format!("{} samples cannot be read:\n{}{rest}", many.len(), told.join("\n"))))
        }
    }
}
