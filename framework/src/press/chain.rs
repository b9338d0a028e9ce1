//! Chains of presses, each with its ratio per layer: what a session runs on every layer.

use std::sync::Arc;

use tch::Tensor;

use super::{Budget, Kept, Needs, Press, RaggedIndices, Selection};
use crate::error::{Error, Result};
use crate::view::{LayerView, union_of};

/// One press of a chain with its budget for every layer.
#[derive(Clone)]
pub struct Stage {
    /// The method.
    pub press: Arc<dyn Press>,
    /// One budget per layer; each counts from what the stages before have left.
    pub budgets: Vec<Budget>,
}

/// Presses applied one after another; each sees what the one before has left. Empty: keep everything.
#[derive(Clone, Default)]
pub struct Pipeline {
    stages: Vec<Stage>,
}

impl Pipeline {
    /// A pipeline of `stages` for a model of `layers` layers.
    ///
    /// # Errors
    /// A stage has a budget for another number of layers, or follows one that keeps a different number per head.
    pub fn new(stages: Vec<Stage>, layers: usize) -> Result<Self> {
        for stage in &stages {
            if stage.budgets.len() != layers {
                return Err(Error::input(format!(
                    "{} has {} compression ratios for {layers} layers",
                    stage.press.identity(),
                    stage.budgets.len()
                )));
            }
        }
        for pair in stages.windows(2) {
            if pair[0].press.head_wise() {
                return Err(Error::input(format!(
                    "{} keeps a different number per KV head, so it must end its chain; {} cannot follow it",
                    pair[0].press.identity(),
                    pair[1].press.identity()
                )));
            }
        }
        Ok(Self { stages })
    }

    /// What the stages read together.
    pub fn needs(&self) -> Needs {
        union_of(self.stages.iter().map(|stage| stage.press.needs()))
    }

    /// Names and parameters of the stages, `none` for the empty pipeline.
    pub fn identity(&self) -> String {
        if self.stages.is_empty() {
            return "none".into();
        }
        self.stages.iter().map(|stage| stage.press.identity()).collect::<Vec<_>>().join(" > ")
    }

    /// Decides on one layer: the composition of the stages' selections, checked against the view.
    ///
    /// # Errors
    /// [`Error::Press`] with the stage that failed or decided something impossible.
    pub fn select(&self, view: &LayerView<'_>) -> Result<Selection> {
        let Some((first, rest)) = self.stages.split_first() else { return Ok(Selection::all()) };
        let mut selection = decide(first, view)?;
        let mut current: Option<LayerView<'_>> = None;
        let mut last = selection.shallow_clone();
        for stage in rest {
            let restricted = current.as_ref().unwrap_or(view).restrict(&last)?;
            last = decide(stage, &restricted)?;
            selection = compose(&selection, &last)?;
            current = Some(restricted);
        }
        Ok(selection)
    }
}

fn decide(stage: &Stage, view: &LayerView<'_>) -> Result<Selection> {
    let blame =
        |error: Error| Error::Press { press: stage.press.identity(), layer: view.layer(), problem: error.to_string() };
    let selection = stage.press.select(view, stage.budgets[view.layer()]).map_err(blame)?;
    selection.check(view.batch(), view.geometry().kv_heads, view.tokens()).map_err(blame)?;
    Ok(selection)
}

/// The selection on the original view that `second`, made on what `first` left, amounts to.
fn compose(first: &Selection, second: &Selection) -> Result<Selection> {
    match (first.kept(), second.kept()) {
        (Kept::All, _) => Ok(second.shallow_clone()),
        (_, Kept::All) => Ok(first.shallow_clone()),
        (Kept::Uniform(outer), Kept::Uniform(inner)) => Selection::uniform(&outer.f_gather(2, inner, false)?),
        (Kept::Uniform(outer), Kept::Ragged(inner)) => {
            let rows = outer.f_flatten(0, 1)?;
            let mut parts = Vec::with_capacity(inner.indptr.len() - 1);
            for (row, part) in inner.indptr.windows(2).enumerate() {
                let indices = inner.indices.f_narrow(0, part[0], part[1] - part[0])?;
                parts.push(rows.f_get(row as i64)?.f_index_select(0, &indices)?);
            }
            Ok(Selection::ragged(RaggedIndices { indices: Tensor::f_cat(&parts, 0)?, indptr: inner.indptr.clone() }))
        }
        (Kept::Ragged(_), _) => {
            Err(Error::input("a stage that keeps a different number per KV head must end its chain"))
        }
    }
}
