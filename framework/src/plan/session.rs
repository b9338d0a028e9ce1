//! Sessions: each press at each of its ratios, with one budget per layer.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::press::{Budget, Budgeting, Pipeline, Stage};
use crate::spec::{BudgetSpec, Mistakes, PressConfig, PressSpec, StageSpec, Storage, labelled, ratios_missing};

/// Label of the uncompressed baseline.
pub const BASELINE: &str = "none";

/// Where the tokens after a context stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionRule {
    /// After the uncompressed context.
    Uncompressed,
    /// After the pairs that were kept: the press moved their keys together.
    Kept,
}

/// One press at one ratio; label and ratio together are unique in a plan.
#[derive(Clone, Serialize)]
pub struct SessionPlan {
    /// What results call the press.
    pub label: String,
    /// The fraction removed: the mean over layers; of a chain, what its stages remove together. `None` where a budget
    /// is a number of tokens or the press's own, so that the ratio depends on the context.
    pub ratio: Option<f64>,
    /// Names and parameters of the presses that decide.
    pub identity: String,
    /// Where the tokens after the context stand.
    pub positions: PositionRule,
    /// The presses in order, with their ratios.
    pub stages: Vec<StagePlan>,
    /// How what they leave is stored; absent: as the model computes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Storage,
    /// What runs on every layer.
    #[serde(skip)]
    pub pipeline: Pipeline,
}

/// One press of a session.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StagePlan {
    /// The press with all its parameters.
    #[serde(flatten)]
    pub press: PressConfig,
    /// Compression ratio per layer, of what the stages before have left, where it is given one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_ratio: Option<Vec<f64>>,
    /// Tokens per KV head and layer, where it is given them instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Vec<usize>>,
}

impl StagePlan {
    fn new(spec: &StageSpec, budgets: &[Budget]) -> Self {
        let given = spec.budgeting == Budgeting::Given;
        let ratios = || budgets.iter().map(|budget| budget.as_ratio()).collect();
        let tokens = || budgets.iter().map(|budget| budget.as_tokens()).collect();
        Self {
            press: spec.config.clone(),
            compression_ratio: if given { ratios() } else { None },
            budget: if given { tokens() } else { None },
        }
    }
}

impl SessionPlan {
    fn new(label: &str, ratio: Option<f64>, stages: Vec<StagePlan>, pipeline: Pipeline) -> Self {
        let positions = if pipeline.moves_keys() { PositionRule::Kept } else { PositionRule::Uncompressed };
        let (cache, identity) = (pipeline.storage(), pipeline.identity());
        Self { label: labelled(label, cache), ratio, identity, positions, stages, cache, pipeline }
    }

    /// Nothing evicted, and stored so.
    pub fn baseline(cache: Storage) -> Self {
        Self::new(BASELINE, Some(0.0), Vec::new(), Pipeline::default().stored(cache))
    }
}

/// Resolves presses for a model of `layers` layers: those with ratios of their own give one session, the others
/// one for each ratio of `sweep`; and of each of these one for each layout.
///
/// # Errors
/// [`Error::Spec`] with every list of ratios of the wrong length, or every press without a ratio if there is no sweep.
pub fn sessions(presses: &[PressSpec], sweep: &[f64], layers: usize) -> Result<Vec<SessionPlan>> {
    let Some(first) = presses.first() else { return Ok(Vec::new()) };
    let mut mistakes = Mistakes::default();
    if sweep.is_empty() {
        ratios_missing(presses, &mut mistakes);
    }
    for stage in presses.iter().flat_map(|press| &press.stages) {
        if let Some(Err(problem)) = stage.budget.as_ref().map(|ratio| ratio.layers(layers)) {
            let help = "give one number per layer, one number for all, or { from = 0.2, to = 0.8 }";
            mistakes.add(stage.span.clone(), problem).help(help);
        }
    }
    mistakes.report(&first.source).map_err(Error::Spec)?;
    let mut all = Vec::new();
    for press in presses {
        let swept: Vec<Budget> = match press.takes_ratio() {
            true => sweep.iter().map(|ratio| Budget::from_ratio(*ratio)).collect::<Result<_>>()?,
            false => vec![Budget::ALL],
        };
        for budget in swept {
            for &cache in &press.caches {
                all.push(session(press, &BudgetSpec::Same(budget), cache, layers)?);
            }
        }
    }
    Ok(all)
}

/// The session of the press called `label` at a ratio that neither it nor a sweep need name.
///
/// # Errors
/// No press is called so, the ratio is outside `[0, 1)`, or there is no one ratio to set: the press is a chain, or its
/// parameters decide how much it keeps.
pub fn session_at(presses: &[PressSpec], label: &str, ratio: f64, layers: usize) -> Result<SessionPlan> {
    let own = presses.iter().flat_map(|press| press.caches.iter().map(move |cache| (press, *cache)));
    let found = own.into_iter().find(|(press, cache)| labelled(&press.label, *cache) == label);
    let (press, cache) = found.ok_or_else(|| Error::input(format!("no press is called `{label}`")))?;
    let [stage] = &press.stages[..] else {
        return Err(Error::input(format!("`{label}` is a chain, whose presses have ratios of their own")));
    };
    if stage.budgeting == Budgeting::Own {
        return Err(Error::input(format!("`{label}` takes no compression ratio: its parameters decide")));
    }
    let stages = vec![StageSpec { budget: None, ..stage.clone() }];
    session(&PressSpec { stages, ..press.clone() }, &BudgetSpec::Same(Budget::from_ratio(ratio)?), cache, layers)
}

/// One session; `swept` is the ratio of the stages without a budget.
fn session(press: &PressSpec, swept: &BudgetSpec, cache: Storage, layers: usize) -> Result<SessionPlan> {
    let (mut stages, mut plans) = (Vec::new(), Vec::new());
    for stage in &press.stages {
        let budgets = stage.budget.as_ref().unwrap_or(swept).layers(layers).map_err(Error::Input)?;
        plans.push(StagePlan::new(stage, &budgets));
        stages.push(Stage { method: stage.method.clone(), budgets });
    }
    let ratio = shown_ratio(&plans, layers);
    Ok(SessionPlan::new(&press.label, ratio, plans, Pipeline::new(stages, layers)?.stored(cache)))
}

/// The fraction that `stages` remove together, mean over layers, if it can be told before a context is there.
fn shown_ratio(stages: &[StagePlan], layers: usize) -> Option<f64> {
    let ratios: Vec<&Vec<f64>> = stages.iter().map(|stage| stage.compression_ratio.as_ref()).collect::<Option<_>>()?;
    // One ratio on all layers is shown as it was written.
    if let [ratios] = &ratios[..]
        && let Some((first, rest)) = ratios.split_first()
        && rest.iter().all(|ratio| ratio == first)
    {
        return Some(*first);
    }
    let left = |layer: usize| ratios.iter().map(|stage| 1.0 - stage[layer]).product::<f64>();
    let removed: f64 = (0..layers).map(|layer| 1.0 - left(layer)).sum();
    // Rounded, so that 1 - 0.9 * 0.8 is 0.28.
    Some((removed / layers.max(1) as f64 * 1e9).round() / 1e9)
}
