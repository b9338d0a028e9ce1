//! `[[press]]`: a method with its parameters, a wrapper around one, or a chain of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;
use toml::de::DeValue;

use super::budget::BudgetSpec;
use super::cache::{Storage, labelled, storage};
use super::params::params;
use super::report::{Mistakes, Source};
use super::spelling;
use super::table::{Node, Table, list, unknown};
use crate::error::{Error, Result};
use crate::plan::BASELINE;
use crate::press::{
    Budget, Budgeting, Built, Entry, Kind, Method, Params, Registry, Wraps, missing_inner, nearest, with_defaults,
};

/// A press with all its parameters, defaults included: what results are stored with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PressConfig {
    /// Name in the registry.
    pub name: String,
    /// Every parameter that has a value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: Params,
    /// The presses it wraps, by the name of their table.
    #[serde(flatten)]
    pub wraps: BTreeMap<&'static str, PressConfig>,
}

impl PressConfig {
    /// The label of a press that was given none: `adakv(expected_attention)`.
    fn label(&self) -> String {
        if self.wraps.is_empty() {
            return self.name.clone();
        }
        let inner: Vec<String> = self.wraps.values().rev().map(Self::label).collect();
        format!("{}({})", self.name, inner.join(", "))
    }
}

/// One method of a chain, made and ready to decide.
#[derive(Clone)]
pub struct StageSpec {
    /// Name and parameters.
    pub config: PressConfig,
    /// The method itself.
    pub method: Method,
    /// Where its budget comes from.
    pub budgeting: Budgeting,
    /// What it is given to keep; `None` takes the sweep's ratio.
    pub budget: Option<BudgetSpec>,
    /// Where the budget is written, or the stage if it has none.
    pub(crate) span: Range<usize>,
}

/// One `[[press]]`.
#[derive(Clone)]
pub struct PressSpec {
    /// What results call it.
    pub label: String,
    /// Its methods in the order they are applied; one unless it is a chain.
    pub stages: Vec<StageSpec>,
    /// How what it leaves is stored: a session for each.
    pub caches: Vec<Storage>,
    /// The file it was read from.
    pub(crate) source: Arc<Source>,
}

impl PressSpec {
    /// The press called `name` with its default parameters, at one ratio if it takes one.
    ///
    /// # Errors
    /// The name is unknown, the press is a wrapper, or the ratio is missing, one too many or outside `[0, 1)`.
    pub fn named(name: &str, ratio: Option<f64>, registry: &Registry) -> Result<Self> {
        let Some(entry) = registry.find(name) else {
            let hint = nearest(name, registry.names()).map(|near| format!("; did you mean `{near}`?"));
            let known = registry.names().collect::<Vec<_>>().join(", ");
            return Err(Error::input(format!("unknown press `{name}`: known are {known}{}", hint.unwrap_or_default())));
        };
        if let Some(wraps) = entry.info().wraps.first() {
            return Err(Error::input(format!("{} in a TOML file with [[press]]", missing_inner(name, *wraps))));
        }
        let budgeting = entry.info().budgeting;
        let budget = match (budgeting, ratio) {
            (Budgeting::Given, Some(ratio)) => Some(BudgetSpec::Same(Budget::from_ratio(ratio)?)),
            (Budgeting::Own, None) => None,
            (Budgeting::Given, None) => {
                return Err(Error::input(format!(
                    "how much should `{name}` remove? add a compression ratio, as in --ratio 0.5"
                )));
            }
            (Budgeting::Own, Some(_)) => {
                return Err(Error::input(format!("`{name}` takes no compression ratio: its parameters decide")));
            }
        };
        let method = entry.build(&Params::new(), Vec::new())?.into_method();
        let params = with_defaults(&entry.info().params, Params::new());
        let config = PressConfig { name: name.to_owned(), params, wraps: BTreeMap::new() };
        let stage = StageSpec { config, method, budgeting, budget, span: 0..0 };
        Ok(Self { label: name.to_owned(), stages: vec![stage], caches: vec![None], source: Arc::default() })
    }

    /// Whether a stage has no budget of its own, so that it takes a ratio from outside (a sweep, `--ratio`).
    pub fn takes_ratio(&self) -> bool {
        self.stages.iter().any(StageSpec::takes_ratio)
    }
}

impl StageSpec {
    /// Whether it takes a ratio from outside.
    pub fn takes_ratio(&self) -> bool {
        self.budget.is_none() && self.budgeting == Budgeting::Given
    }
}

/// Reads `[[press]]` tables; labels are unique over all of them.
pub(super) struct PressReader<'r> {
    pub(super) registry: &'r Registry,
    /// Layouts of those that name none.
    pub(super) caches: &'r [Storage],
    pub(super) source: Arc<Source>,
    /// Labels so far with their places.
    pub(super) labels: BTreeMap<String, Range<usize>>,
}

impl PressReader<'_> {
    /// One `[[press]]`.
    pub(super) fn read(&mut self, node: &Node<'_>, mistakes: &mut Mistakes) -> Option<PressSpec> {
        let mut table = method_table("[[press]]", node, mistakes)?;
        let label = table.text("label", mistakes);
        let caches = match table.get("cache") {
            Some(node) => storage(node, mistakes).into_iter().collect(),
            None => self.caches.to_vec(),
        };
        if let Some((label, span)) = &label {
            self.claim(label, &caches, span.clone(), mistakes);
        }
        let stages = match (table.get("name"), table.get("chain")) {
            (None, Some(chain)) => self.whole_chain(table, "chain", chain, mistakes),
            (Some(name), None) if spelling::is(name, spelling::CHAIN) => self.presses(table, mistakes),
            (Some(_), Some(_)) => {
                let mistake = mistakes.add(table.key_span("chain"), "a [[press]] has either `name` or `chain`");
                mistake.other(table.key_span("name"), "and here is its name");
                mistake.help("put this press into the chain, or into a [[press]] of its own");
                None
            }
            (None, None) => {
                let mistake = mistakes.add(table.span(), "a [[press]] needs a `name`, or a `chain` of presses");
                mistake.help("`pressroom press list` shows the names");
                None
            }
            (Some(_), None) => self.stage(table, mistakes).map(|stage| vec![stage]),
        }?;
        let label = match label {
            Some((label, _)) => label.to_owned(),
            None => {
                let label = stages.iter().map(|stage| stage.config.label()).collect::<Vec<_>>().join(" > ");
                self.claim(&label, &caches, node.span(), mistakes);
                label
            }
        };
        Some(PressSpec { label, stages, caches, source: self.source.clone() })
    }

    /// Takes a label, which every session of the press begins with.
    fn claim(&mut self, label: &str, caches: &[Storage], span: Range<usize>, mistakes: &mut Mistakes) {
        if label.split(" + ").next() == Some(BASELINE) {
            let mistake = mistakes.add(span, format!("the label `{BASELINE}` is the uncompressed baseline's"));
            mistake.help("choose another label");
            return;
        }
        if label.chars().any(char::is_control) || label.trim() != label {
            let mistake = mistakes.add(span, "a label is one line of text without spaces around it");
            mistake.help("it names the press in tables");
            return;
        }
        for label in caches.iter().map(|storage| labelled(label, *storage)) {
            if let Some(first) = self.labels.get(&label) {
                let mistake = mistakes.add(span, format!("there are two presses called `{label}`"));
                mistake.other(first.clone(), "the first one").help("tell them apart: label = \"...\"");
                return;
            }
            self.labels.insert(label, span.clone());
        }
    }

    /// A `[[press]]` that is the list `key` of presses.
    pub(super) fn whole_chain(
        &self,
        mut table: Table<'_>,
        key: &str,
        node: &Node<'_>,
        mistakes: &mut Mistakes,
    ) -> Option<Vec<StageSpec>> {
        let reason =
            format!("each press of a chain has its own: {key} = [{{ name = \"...\", compression_ratio = 0.5 }}, ...]");
        table.refuse("compression_ratio", &reason, mistakes);
        table.refuse("press", "a press inside a chain may be a wrapper", mistakes);
        table.finish(mistakes);
        let mut stages = Vec::new();
        for item in list(key, node, mistakes)? {
            let stage = method_table("a press of the chain", item, mistakes).and_then(|mut table| {
                table.refuse("label", "only the [[press]] has a label", mistakes);
                table.refuse("chain", "chains are not nested; write its presses into this chain", mistakes);
                table.refuse("cache", "the whole chain has one: cache = { bits = 4 } beside it", mistakes);
                Some((self.stage(table, mistakes)?, item.span()))
            });
            stages.push(stage);
        }
        for pair in stages.windows(2) {
            let [Some((first, span)), Some((next, next_span))] = pair else { continue };
            if let Some(reason) = first.method.refuses(&next.method) {
                let mistake = mistakes.add(span.clone(), format!("`{}` {reason}", first.config.name));
                mistake.other(next_span.clone(), format!("`{}` cannot follow it", next.config.name));
                mistake.help("change their order, or run them as presses of their own");
            }
        }
        stages.into_iter().map(|stage| stage.map(|(stage, _)| stage)).collect()
    }

    /// A method with its budget.
    fn stage(&self, mut table: Table<'_>, mistakes: &mut Mistakes) -> Option<StageSpec> {
        if table.get("name").is_some_and(|name| spelling::is(name, spelling::PER_LAYER)) {
            return self.per_layer(table, mistakes);
        }
        let (ratio, tokens) = (table.get("compression_ratio"), table.get("budget"));
        let before = mistakes.len();
        if let (Some(_), Some(tokens)) = (ratio, tokens) {
            let mistake =
                mistakes.add(tokens.span(), "a press has either a `compression_ratio` or a `budget` in tokens");
            mistake.other(table.key_span("compression_ratio"), "and here is its ratio");
        }
        let budget = match (ratio, tokens) {
            (Some(ratio), _) => BudgetSpec::read(ratio, mistakes),
            (None, Some(tokens)) => BudgetSpec::read_tokens(tokens, mistakes),
            (None, None) => None,
        };
        let span = ratio.or(tokens).map_or_else(|| table.span(), Node::span);
        let given = match (ratio.or(tokens), budget) {
            (None, _) => Ok(None),
            (Some(_), budget) => budget.filter(|_| mistakes.len() == before).map(Some).ok_or(()),
        };
        self.with_budget(table, given, span, mistakes)
    }

    /// The method of `table` with the budget that is written at `span`: none, or one that could not be read.
    pub(super) fn with_budget(
        &self,
        table: Table<'_>,
        budget: Result<Option<BudgetSpec>, ()>,
        span: Range<usize>,
        mistakes: &mut Mistakes,
    ) -> Option<StageSpec> {
        let (built, config, budgeting) = self.method(table, mistakes)?;
        if budgeting == Budgeting::Own && budget != Ok(None) {
            let mistake = mistakes.add(span, format!("`{}` takes no compression ratio", config.name));
            mistake.help("its parameters decide how much it keeps");
            return None;
        }
        Some(StageSpec { config, method: built.into_method(), budgeting, budget: budget.ok()?, span })
    }

    /// A method with its parameters.
    fn method(&self, mut table: Table<'_>, mistakes: &mut Mistakes) -> Option<(Built, PressConfig, Budgeting)> {
        table.require("name", "`pressroom press list` shows the names", mistakes)?;
        // The parameters of an unnamed or unknown press are unknown too: the name is the one mistake to tell.
        let (name, span) = table.text("name", mistakes)?;
        if let Some(problem) = spelling::misplaced(name) {
            mistakes.add(span, problem);
            return None;
        }
        let Some(entry) = self.registry.find(name) else {
            let names: Vec<&str> = self.registry.names().collect();
            unknown(span, &format!("press `{name}`"), name, &names, mistakes);
            return None;
        };
        let before = mistakes.len();
        let params = params(&mut table, &entry.info().params, mistakes);
        let inner = self.inner(entry, &mut table, span.clone(), mistakes);
        table.finish(mistakes);
        if mistakes.len() > before {
            return None;
        }
        let (built, wraps): (Vec<Built>, BTreeMap<&'static str, PressConfig>) =
            inner.into_iter().map(|(key, built, config)| (built, (key, config))).unzip();
        let built = entry.build(&params, built).map_err(|error| mistakes.add(span, error.to_string())).ok()?;
        let config = PressConfig { name: name.to_owned(), params: with_defaults(&entry.info().params, params), wraps };
        Some((built, config, entry.info().budgeting))
    }

    /// What `entry` wraps, in the order of its description.
    fn inner(
        &self,
        entry: &Entry,
        table: &mut Table<'_>,
        name_span: Range<usize>,
        mistakes: &mut Mistakes,
    ) -> Vec<(&'static str, Built, PressConfig)> {
        let info = entry.info();
        if info.wraps.is_empty() {
            table.refuse("press", &format!("`{}` wraps nothing; only wrappers do", info.name), mistakes);
        }
        let wraps = info.wraps.iter();
        wraps.filter_map(|wraps| self.wrapped(&info.name, *wraps, table, name_span.clone(), mistakes)).collect()
    }

    /// The press in the table `wraps.key`.
    fn wrapped(
        &self,
        name: &str,
        wraps: Wraps,
        table: &mut Table<'_>,
        name_span: Range<usize>,
        mistakes: &mut Mistakes,
    ) -> Option<(&'static str, Built, PressConfig)> {
        let Some(node) = table.get(wraps.key) else {
            mistakes.add(name_span, missing_inner(name, wraps));
            return None;
        };
        let inner = inner_table(name, wraps.key, node, mistakes)?;
        let (built, config, _) = self.method(inner, mistakes)?;
        if wraps.accepts(&built) {
            return Some((wraps.key, built, config));
        }
        let problem = format!("`{name}` wraps a {}, and `{}` is none", wraps.kind, config.name);
        let fitting = self.registry.entries().map(Entry::info).filter(|info| wraps.accepts_kind(info.kind));
        let fitting: Vec<&str> = fitting.map(|info| info.name.as_str()).collect();
        let kinds = if wraps.kind == Kind::Press { "presses".to_owned() } else { format!("{}s", wraps.kind) };
        mistakes.add(node.span(), problem).help(format!("{kinds}: {}", fitting.join(", ")));
        None
    }
}

/// A press is a table, even where only its name is to be said.
fn method_table<'a>(what: &str, node: &'a Node<'a>, mistakes: &mut Mistakes) -> Option<Table<'a>> {
    if let DeValue::String(name) = node.get_ref() {
        let mistake = mistakes.add(node.span(), format!("{what} is a table, not text"));
        mistake.help(format!("write {{ name = {name:?} }}"));
        return None;
    }
    Table::of(what, node, mistakes)
}

/// The table `key` of the press that `name` wraps.
pub(super) fn inner_table<'a>(name: &str, key: &str, node: &'a Node<'a>, mistakes: &mut Mistakes) -> Option<Table<'a>> {
    let mut inner = method_table(&format!("`{key}`"), node, mistakes)?;
    for key in ["compression_ratio", "budget"] {
        inner.refuse(key, &format!("set it on `{name}`, which decides"), mistakes);
    }
    inner.refuse("label", "only the [[press]] has a label", mistakes);
    inner.refuse("cache", &format!("set it on `{name}`"), mistakes);
    inner.refuse("chain", "a wrapper wraps one press; put the wrapper into a chain instead", mistakes);
    Some(inner)
}
