//! Chains of presses, each with its budget per layer: what a session runs.

use std::sync::Arc;

use super::compose::{by_head, compose};
use super::{Budget, ContextPress, DecodingPress, Kept, Method, ModelFacts, Needs, Press, Selection};
use crate::cache::{LayerCache, Quantization};
use crate::error::{Error, Result};
use crate::view::{LayerView, union_of};

/// One press of a chain with its budget for every layer.
#[derive(Clone)]
pub struct Stage {
    /// The press.
    pub method: Method,
    /// One budget per layer; each counts from what the stages before have left.
    pub budgets: Vec<Budget>,
}

/// Presses applied one after another, each sees what the one before has left, and how the last one's leavings are
/// stored. Empty: keep everything.
#[derive(Clone, Default)]
pub struct Pipeline {
    identity: Vec<String>,
    layers: Vec<LayerStage>,
    context: Option<ContextStage>,
    decoding: Option<Arc<dyn DecodingPress>>,
    storage: Option<Quantization>,
}

/// A press that decides layer by layer.
#[derive(Clone)]
struct LayerStage {
    press: Arc<dyn Press>,
    budgets: Vec<Budget>,
}

/// The press that decides when the whole context has been prefilled.
#[derive(Clone)]
pub struct ContextStage {
    /// The press.
    pub press: Arc<dyn ContextPress>,
    /// One budget per layer.
    pub budgets: Vec<Budget>,
}

impl Pipeline {
    /// A pipeline of `stages` for a model of `layers` layers.
    ///
    /// # Errors
    /// A stage has budgets for another number of layers, or cannot follow the one before it.
    pub fn new(stages: Vec<Stage>, layers: usize) -> Result<Self> {
        for stage in &stages {
            if stage.budgets.len() != layers {
                return Err(Error::input(format!(
                    "{} has {} compression ratios for {layers} layers",
                    stage.method.identity(),
                    stage.budgets.len()
                )));
            }
        }
        for pair in stages.windows(2) {
            if let Some(reason) = pair[0].method.refuses(&pair[1].method) {
                let (first, next) = (pair[0].method.identity(), pair[1].method.identity());
                return Err(Error::input(format!("{first} {reason}; {next} cannot follow it")));
            }
        }
        let mut pipeline = Self { identity: stages.iter().map(|s| s.method.identity()).collect(), ..Self::default() };
        for Stage { method, budgets } in stages {
            match method {
                Method::Layer(press) => pipeline.layers.push(LayerStage { press, budgets }),
                Method::Context(press) => pipeline.context = Some(ContextStage { press, budgets }),
                Method::Phases { prefill, decoding } => {
                    pipeline.layers.extend(prefill.map(|press| LayerStage { press, budgets }));
                    pipeline.decoding = Some(decoding);
                }
            }
        }
        Ok(pipeline)
    }

    /// The same pipeline, which stores what it leaves as small integers; `None`: as the model computed it.
    pub fn stored(self, storage: Option<Quantization>) -> Self {
        Self { storage, ..self }
    }

    /// How what it leaves is stored.
    pub fn storage(&self) -> Option<Quantization> {
        self.storage
    }

    /// A layer of what the stages have left, as it is to be stored.
    ///
    /// # Errors
    /// It cannot be quantized.
    pub fn store(&self, layer: LayerCache) -> Result<LayerCache> {
        match self.storage {
            Some(quantization) => layer.quantized(quantization),
            None => Ok(layer),
        }
    }

    /// What the stages read together during the prefill.
    pub fn needs(&self) -> Needs {
        let context = self.context.iter().map(|stage| stage.press.needs());
        union_of(self.layers.iter().map(|stage| stage.press.needs()).chain(context))
    }

    /// Whether keys move to other positions, so that later tokens count from the kept length.
    pub fn moves_keys(&self) -> bool {
        self.layers.iter().any(|stage| stage.press.moves_keys())
    }

    /// Names and parameters of the stages, `none` for the empty pipeline.
    pub fn identity(&self) -> String {
        if self.identity.is_empty() { "none".into() } else { self.identity.join(" > ") }
    }

    /// Lets every stage read what it needs to know of the model, once, before any context.
    ///
    /// # Errors
    /// Side data is missing, damaged or another model's.
    pub fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.layers.iter().try_for_each(|stage| stage.press.prepare(model))?;
        self.context.iter().try_for_each(|stage| stage.press.prepare(model))?;
        self.decoding.iter().try_for_each(|press| press.prepare(model))
    }

    /// The stage that decides after the whole prefill.
    pub fn context(&self) -> Option<&ContextStage> {
        self.context.as_ref()
    }

    /// The stage that decides while decoding.
    pub fn decoding(&self) -> Option<&Arc<dyn DecodingPress>> {
        self.decoding.as_ref()
    }

    /// Decides on one layer during the prefill: the composition of the stages' selections, checked against the view.
    ///
    /// # Errors
    /// [`Error::Press`] with the stage that failed or decided something impossible.
    pub fn select(&self, view: &LayerView<'_>) -> Result<Selection> {
        let Some((first, rest)) = self.layers.split_first() else { return Ok(Selection::all()) };
        let mut selection = first.decide(view)?;
        for stage in rest {
            selection = match selection.kept() {
                Kept::Ragged(_) => by_head(&selection, view, &|left| stage.decide(left))?,
                _ => compose(&selection, &stage.decide(&view.restrict(&selection)?)?)?,
            };
        }
        Ok(selection)
    }
}

impl LayerStage {
    fn decide(&self, view: &LayerView<'_>) -> Result<Selection> {
        let blame = |error: Error| Error::Press {
            press: self.press.identity(),
            layer: view.layer(),
            problem: error.to_string(),
        };
        let selection = self.press.select(view, self.budgets[view.layer()]).map_err(blame)?;
        selection.check(view.batch(), view.geometry().kv_heads, view.tokens()).map_err(blame)?;
        Ok(selection)
    }
}
