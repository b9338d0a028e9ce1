//! Experiments and pipelines in TOML, as written: names are known, values are in range, nothing is loaded.

mod budget;
mod cache;
mod overrides;
mod params;
mod plugin;
mod press;
mod report;
mod schema;
mod sections;
mod spelling;
mod table;
mod task;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

pub use budget::BudgetSpec;
pub use cache::{Storage, labelled};
pub use overrides::apply_overrides;
pub use plugin::PluginSpec;
pub use press::{PressConfig, PressSpec, StageSpec};
pub use report::{Report, Source};
pub use schema::schema;
pub use sections::{ModelSpec, RunSpec};
pub use spelling::SPELLINGS;
pub use task::{TaskInfo, TaskSpec};

pub(crate) use report::Mistakes;
pub(crate) use table::Choice;

use press::PressReader;
use sections::SweepSpec;
use table::{Node, Table, kind};

use crate::error::{Error, Result};
use crate::press::Registry;

/// An experiment: which model answers which questions through which presses.
#[derive(Clone)]
pub struct Spec {
    /// `[model]`
    pub model: ModelSpec,
    /// `[task]`
    pub task: TaskSpec,
    /// `[[press]]`, in the order of the file.
    pub presses: Vec<PressSpec>,
    /// `[sweep] compression_ratio`: the ratios of every press that has none of its own.
    pub sweep: Vec<f64>,
    /// `[cache]`, or `[sweep] cache`: how the baseline, and every press that does not say so itself, is stored.
    pub caches: Vec<Storage>,
    /// `[run]`
    pub run: RunSpec,
    /// What is odd but no mistake.
    pub warnings: Report,
}

impl Spec {
    /// Reads an experiment. `file` is what messages call the text; `tasks` are those that `[task]` can name.
    ///
    /// # Errors
    /// [`Error::Spec`] with all mistakes of the file: those of its syntax, or else those of its content.
    pub fn parse(text: &str, file: &str, registry: &Registry, tasks: &[TaskInfo]) -> Result<Self> {
        let source = Arc::new(Source { file: file.to_owned(), text: text.to_owned() });
        let root = syntax(&source)?;
        let mut mistakes = Mistakes::default();
        let mut root = Table::new("an experiment", 0..0, &root);
        plugin::plugins(&mut root, &source, &mut mistakes);
        let model = section(&mut root, "model", "path = \"smollm2-135m-instruct\"", &mut mistakes)
            .and_then(|table| ModelSpec::read(table, &mut mistakes));
        let task = section(&mut root, "task", "name = \"needle\"", &mut mistakes)
            .and_then(|table| TaskSpec::read(table, tasks, &mut mistakes));
        let run = section(&mut root, "run", "output = \"runs/first\"", &mut mistakes)
            .and_then(|table| RunSpec::read(table, &mut mistakes));
        let sweep_span = root.key_span("sweep");
        let swept = root.get("sweep").is_some();
        let sweep = root.table("sweep", &mut mistakes).map(|table| SweepSpec::read(table, &mut mistakes));
        let sweep = sweep.unwrap_or_default();
        let caches = caches(&mut root, sweep.caches, &mut mistakes);
        let (presses, complete) = presses(&mut root, &caches, registry, &source, &mut mistakes);
        if complete {
            if sweep.compression_ratio.is_some() && !presses.iter().any(PressSpec::takes_ratio) {
                let warning = mistakes.warn(sweep_span, "[sweep] changes nothing: every press has its own ratio");
                warning.help("remove [sweep], or the `compression_ratio` of the presses it is for");
            }
            if !swept || sweep.cache_only {
                ratios_missing(&presses, &mut mistakes);
            }
            if presses.is_empty() && run.as_ref().is_some_and(|run| !run.baseline) {
                let mistake = mistakes.add(root.key_span("run"), "nothing to run: no [[press]] and no baseline");
                mistake.help("add a [[press]], or remove `baseline = false`");
            }
        }
        root.finish(&mut mistakes);
        let warnings = mistakes.report(&source).map_err(Error::Spec)?;
        // What could not be read has left its mistake in the report above.
        let incomplete = || Error::input(format!("{file}: could not be read"));
        Ok(Self {
            model: model.ok_or_else(incomplete)?,
            task: task.ok_or_else(incomplete)?,
            presses,
            sweep: sweep.compression_ratio.unwrap_or_default(),
            caches,
            run: run.ok_or_else(incomplete)?,
            warnings,
        })
    }

    /// Reads a pipeline: a file with `[[press]]` (and `[[plugin]]` and `[cache]`) only.
    ///
    /// # Errors
    /// As [`Spec::parse`]; also a section that belongs to an experiment, or no press at all.
    pub fn parse_pipeline(text: &str, file: &str, registry: &Registry) -> Result<Vec<PressSpec>> {
        let source = Arc::new(Source { file: file.to_owned(), text: text.to_owned() });
        let root = syntax(&source)?;
        let mut mistakes = Mistakes::default();
        let mut root = Table::new("a pipeline", 0..0, &root);
        plugin::plugins(&mut root, &source, &mut mistakes);
        let caches = caches(&mut root, None, &mut mistakes);
        let (presses, complete) = presses(&mut root, &caches, registry, &source, &mut mistakes);
        if complete && presses.is_empty() {
            mistakes.add(0..0, "a pipeline needs a [[press]]").help("[[press]] and below it name = \"...\"");
        }
        for key in ["model", "task", "sweep", "run"] {
            root.refuse(key, "a pipeline is [[press]] only; `pressroom run` takes whole experiments", &mut mistakes);
        }
        root.finish(&mut mistakes);
        mistakes.report(&source).map_err(Error::Spec)?;
        Ok(presses)
    }
}

/// The file as TOML, or all its syntax errors.
fn syntax(source: &Arc<Source>) -> Result<DeTable<'_>> {
    let (root, errors) = DeTable::parse_recoverable(&source.text);
    let mut mistakes = Mistakes::default();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let word = source.text.get(span.clone()).is_some_and(|text| text.starts_with(char::is_alphabetic));
        let mistake = mistakes.add(span, error.message());
        if word && error.message().starts_with("invalid") {
            mistake.help("text stands in quotes");
        }
    }
    mistakes.report(source).map_err(Error::Spec)?;
    Ok(root.into_inner())
}

/// A section that has to be there.
fn section<'a>(root: &mut Table<'a>, name: &str, example: &str, mistakes: &mut Mistakes) -> Option<Table<'a>> {
    let Some(node) = root.get(name) else {
        mistakes.add(0..0, format!("the section [{name}] is missing")).help(format!("[{name}] and below it {example}"));
        return None;
    };
    Table::of(format!("[{name}]"), node, mistakes)
}

/// The tables of `[[name]]`.
fn repeated<'a>(root: &mut Table<'a>, name: &str, mistakes: &mut Mistakes) -> Option<&'a [Node<'a>]> {
    let Some(node) = root.get(name) else { return Some(&[]) };
    let DeValue::Array(tables) = node.get_ref() else {
        let mistake = mistakes.add(node.span(), format!("`{name}` is {}", kind(node.get_ref())));
        mistake.help(format!("write [[{name}]], in double brackets, once for each"));
        return None;
    };
    Some(tables)
}

/// How presses are stored that do not say so themselves: as `[cache]` says, or in each layout of the sweep.
fn caches(root: &mut Table<'_>, swept: Option<(Vec<Storage>, Range<usize>)>, mistakes: &mut Mistakes) -> Vec<Storage> {
    let span = root.key_span("cache");
    let one = root.get("cache").map(|node| {
        let table = Table::of("[cache]", node, mistakes)?;
        cache::quantization(table, mistakes)
    });
    match (one, swept) {
        (None, None) => vec![None],
        (Some(one), None) => vec![one],
        (None, Some((all, _))) => all,
        (Some(one), Some((_, key))) => {
            let mistake = mistakes.add(key, "the layout is either that of [cache], or swept");
            mistake.other(span, "and here is [cache]").help("put its table into the list");
            vec![one]
        }
    }
}

/// All presses that could be read, and whether that is all there are.
fn presses(
    root: &mut Table<'_>,
    caches: &[Storage],
    registry: &Registry,
    source: &Arc<Source>,
    mistakes: &mut Mistakes,
) -> (Vec<PressSpec>, bool) {
    let Some(nodes) = repeated(root, "press", mistakes) else { return (Vec::new(), false) };
    let mut reader = PressReader { registry, caches, source: source.clone(), labels: BTreeMap::new() };
    let presses: Vec<PressSpec> = nodes.iter().filter_map(|node| reader.read(node, mistakes)).collect();
    let complete = presses.len() == nodes.len();
    (presses, complete)
}

/// Notes the presses that run at no ratio.
pub(crate) fn ratios_missing(presses: &[PressSpec], mistakes: &mut Mistakes) {
    for press in presses {
        for stage in press.stages.iter().filter(|stage| stage.takes_ratio()) {
            let mistake = mistakes.add(stage.span.clone(), format!("`{}` has no compression ratio", stage.config.name));
            mistake.help(
                "give it one, compression_ratio = 0.5, or all of them some: [sweep] compression_ratio = [0.25, 0.5]",
            );
        }
    }
}
