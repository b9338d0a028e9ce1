//! `[[press]]`: a method with its parameters, a wrapper around one, or a chain of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;
use toml::de::DeValue;

use super::ratio::RatioSpec;
use super::report::{Mistakes, Source};
use super::table::{Node, Table, integer, kind, list, number, unknown};
use crate::error::{Error, Result};
use crate::plan::BASELINE;
use crate::press::{Budget, Built, Entry, Kind, Params, Press, Registry, Scorer, Value, missing_inner, nearest};

/// A press with all its parameters, defaults included: what results are stored with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PressConfig {
    /// Name in the registry.
    pub name: String,
    /// Every parameter that has a value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: Params,
    /// The scorer it wraps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub press: Option<Box<PressConfig>>,
}

impl PressConfig {
    /// The label of a press that was given none: `adakv(expected_attention)`.
    fn label(&self) -> String {
        match &self.press {
            Some(inner) => format!("{}({})", self.name, inner.label()),
            None => self.name.clone(),
        }
    }
}

/// One method of a chain, made and ready to decide.
#[derive(Clone)]
pub struct StageSpec {
    /// Name and parameters.
    pub config: PressConfig,
    /// The method itself.
    pub press: Arc<dyn Press>,
    /// Its own ratio; `None` takes the sweep's.
    pub ratio: Option<RatioSpec>,
    /// Where the ratio is written, or the stage if it has none.
    pub(crate) span: Range<usize>,
}

/// One `[[press]]`.
#[derive(Clone)]
pub struct PressSpec {
    /// What results call it.
    pub label: String,
    /// Its methods in the order they are applied; one unless it is a chain.
    pub stages: Vec<StageSpec>,
    /// The file it was read from.
    pub(crate) source: Arc<Source>,
}

impl PressSpec {
    /// The press called `name` with its default parameters at one ratio.
    ///
    /// # Errors
    /// The name is unknown, the press is a wrapper, or the ratio is outside `[0, 1)`.
    pub fn named(name: &str, ratio: f64, registry: &Registry) -> Result<Self> {
        let Some(entry) = registry.find(name) else {
            let hint = nearest(name, registry.names()).map(|near| format!("; did you mean `{near}`?"));
            let known = registry.names().collect::<Vec<_>>().join(", ");
            return Err(Error::input(format!("unknown press `{name}`: known are {known}{}", hint.unwrap_or_default())));
        };
        if entry.info().kind == Kind::Wrapper {
            return Err(Error::input(format!("{} in a TOML file with [[press]]", missing_inner(name))));
        }
        let press = entry.build(&Params::new(), None)?.into_press();
        let config = PressConfig { name: name.to_owned(), params: with_defaults(entry, Params::new()), press: None };
        let ratio = Some(RatioSpec::Same(Budget::from_ratio(ratio)?));
        let stage = StageSpec { config, press, ratio, span: 0..0 };
        Ok(Self { label: name.to_owned(), stages: vec![stage], source: Arc::default() })
    }

    /// Whether a stage has no ratio of its own, so that it takes one from outside (a sweep, `--ratio`).
    pub fn takes_ratio(&self) -> bool {
        self.stages.iter().any(|stage| stage.ratio.is_none())
    }
}

/// Reads `[[press]]` tables; labels are unique over all of them.
pub(super) struct PressReader<'r> {
    pub(super) registry: &'r Registry,
    pub(super) source: Arc<Source>,
    /// Labels so far with their places.
    pub(super) labels: BTreeMap<String, Range<usize>>,
}

impl PressReader<'_> {
    /// One `[[press]]`.
    pub(super) fn read(&mut self, node: &Node<'_>, mistakes: &mut Mistakes) -> Option<PressSpec> {
        let mut table = Table::of("[[press]]", node, mistakes)?;
        let label = table.text("label", mistakes);
        if let Some((label, span)) = &label {
            self.claim(label, span.clone(), mistakes);
        }
        let stages = match (table.get("name"), table.get("chain")) {
            (None, Some(chain)) => {
                let reason =
                    "each press of a chain has its own: chain = [{ name = \"...\", compression_ratio = 0.5 }, ...]";
                table.refuse("compression_ratio", reason, mistakes);
                table.refuse("press", "a press inside a chain may be a wrapper", mistakes);
                table.finish(mistakes);
                self.chain(chain, mistakes)
            }
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
                self.claim(&label, node.span(), mistakes);
                label
            }
        };
        Some(PressSpec { label, stages, source: self.source.clone() })
    }

    fn claim(&mut self, label: &str, span: Range<usize>, mistakes: &mut Mistakes) {
        if label == BASELINE {
            let mistake = mistakes.add(span, format!("the label `{BASELINE}` is the uncompressed baseline's"));
            mistake.help("choose another label");
        } else if label.chars().any(char::is_control) || label.trim() != label {
            let mistake = mistakes.add(span, "a label is one line of text without spaces around it");
            mistake.help("it names the press in tables");
        } else if let Some(first) = self.labels.get(label) {
            let mistake = mistakes.add(span, format!("there are two presses called `{label}`"));
            mistake.other(first.clone(), "the first one").help("tell them apart: label = \"...\"");
        } else {
            self.labels.insert(label.to_owned(), span);
        }
    }

    fn chain(&self, node: &Node<'_>, mistakes: &mut Mistakes) -> Option<Vec<StageSpec>> {
        let mut stages = Vec::new();
        for item in list("chain", node, mistakes)? {
            let stage = Table::of("a press of the chain", item, mistakes).and_then(|mut table| {
                table.refuse("label", "only the [[press]] has a label", mistakes);
                table.refuse("chain", "chains are not nested; write its presses into this chain", mistakes);
                Some((self.stage(table, mistakes)?, item.span()))
            });
            stages.push(stage);
        }
        for pair in stages.windows(2) {
            let [Some((first, span)), next] = pair else { continue };
            if first.press.head_wise() {
                let name = &first.config.name;
                let mistake = mistakes.add(
                    span.clone(),
                    format!("`{name}` keeps a different number per KV head, so it must end its chain"),
                );
                mistake.help(format!("move `{name}` to the end"));
                if let Some((_, span)) = next {
                    mistake.other(span.clone(), "this cannot follow it");
                }
            }
        }
        stages.into_iter().map(|stage| stage.map(|(stage, _)| stage)).collect()
    }

    /// A method with its ratio.
    fn stage(&self, mut table: Table<'_>, mistakes: &mut Mistakes) -> Option<StageSpec> {
        let written = table.get("compression_ratio");
        let span = written.map_or_else(|| table.span(), Node::span);
        let before = mistakes.len();
        let ratio = written.and_then(|node| RatioSpec::read(node, mistakes));
        let broken_ratio = mistakes.len() > before;
        let (built, config) = self.method(table, mistakes)?;
        (!broken_ratio).then(|| StageSpec { config, press: built.into_press(), ratio, span })
    }

    /// A method with its parameters.
    fn method(&self, mut table: Table<'_>, mistakes: &mut Mistakes) -> Option<(Built, PressConfig)> {
        table.require("name", "`pressroom press list` shows the names", mistakes)?;
        // The parameters of an unnamed or unknown press are unknown too: the name is the one mistake to tell.
        let (name, span) = table.text("name", mistakes)?;
        let Some(entry) = self.registry.find(name) else {
            let names: Vec<&str> = self.registry.names().collect();
            unknown(span, &format!("press `{name}`"), name, &names, mistakes);
            return None;
        };
        let before = mistakes.len();
        let mut params = Params::new();
        for param in &entry.info().params {
            let Some(node) = table.get(&param.name) else { continue };
            match value(node).map_or_else(|| param_type_mistake(&param.name, node, param.kind), |v| param.accept(v)) {
                Ok(value) => {
                    params.insert(param.name.clone(), value);
                }
                Err(problem) => {
                    mistakes.add(node.span(), problem).help(param.doc.replace('\n', " "));
                }
            }
        }
        let inner = self.inner(entry, &mut table, span.clone(), mistakes);
        table.finish(mistakes);
        if mistakes.len() > before {
            return None;
        }
        let (scorer, inner) = inner.unzip();
        let built = entry.build(&params, scorer).map_err(|error| mistakes.add(span, error.to_string())).ok()?;
        let config = PressConfig { name: name.to_owned(), params: with_defaults(entry, params), press: inner };
        Some((built, config))
    }

    /// What `entry` wraps.
    fn inner(
        &self,
        entry: &Entry,
        table: &mut Table<'_>,
        name_span: Range<usize>,
        mistakes: &mut Mistakes,
    ) -> Option<(Arc<dyn Scorer>, Box<PressConfig>)> {
        let name = &entry.info().name;
        if entry.info().kind != Kind::Wrapper {
            table.refuse("press", &format!("`{name}` wraps nothing; only wrappers do"), mistakes);
            return None;
        }
        let Some(node) = table.get("press") else {
            mistakes.add(name_span, missing_inner(name));
            return None;
        };
        let mut inner = Table::of("`press`", node, mistakes)?;
        inner.refuse("compression_ratio", &format!("set it on `{name}`, which decides"), mistakes);
        inner.refuse("label", "only the [[press]] has a label", mistakes);
        inner.refuse("chain", "a wrapper wraps one scorer; put the wrapper into a chain instead", mistakes);
        match self.method(inner, mistakes)? {
            (Built::Scorer(scorer), config) => Some((scorer, Box::new(config))),
            (Built::Press(_), config) => {
                let problem = format!("`{name}` wraps a scorer, and `{}` is none", config.name);
                let scorers = self.registry.entries().map(Entry::info).filter(|info| info.kind == Kind::Scorer);
                let scorers: Vec<&str> = scorers.map(|info| info.name.as_str()).collect();
                mistakes.add(node.span(), problem).help(format!("scorers: {}", scorers.join(", ")));
                None
            }
        }
    }
}

fn value(node: &Node<'_>) -> Option<Value> {
    match node.get_ref() {
        DeValue::Boolean(flag) => Some(Value::Flag(*flag)),
        DeValue::Integer(_) => integer(node).map(Value::Integer),
        DeValue::Float(_) => number(node).map(Value::Number),
        _ => None,
    }
}

fn param_type_mistake(name: &str, node: &Node<'_>, expected: crate::press::ParamType) -> Result<Value, String> {
    match node.get_ref() {
        DeValue::Integer(integer) => Err(format!("`{name}` is {integer}, which is too large")),
        other => Err(format!("`{name}` is {expected}, not {}", kind(other))),
    }
}

fn with_defaults(entry: &Entry, mut params: Params) -> Params {
    for param in &entry.info().params {
        if let Some(default) = param.default {
            params.entry(param.name.clone()).or_insert(default);
        }
    }
    params
}
