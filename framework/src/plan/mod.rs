//! Experiments as resolved for one model: every session with its budgets, in the order of the report.

mod device;
mod memory;
mod session;

use serde::Serialize;
use serde_json::Value;

pub use device::{DeviceChoice, DtypeChoice};
pub use memory::MemoryBudget;
pub use session::{BASELINE, PositionRule, SessionPlan, StagePlan, session_at, sessions};

use crate::error::Result;
use crate::model::LlamaConfig;
use crate::spec::{ModelSpec, RunSpec, Spec, TaskSpec};

/// What a run does. Serialises to what is stored beside the results: equal plans give equal answers.
#[derive(Clone, Serialize)]
pub struct Plan {
    /// The model and how it runs.
    pub model: ModelSpec,
    /// What is asked.
    pub task: TaskSpec,
    /// How it runs; of this, only the seed is stored.
    #[serde(flatten)]
    pub run: RunSpec,
    /// The sessions, the uncompressed baseline first if it is part of the run, also as the layouts store it.
    pub sessions: Vec<SessionPlan>,
}

impl Plan {
    /// Resolves `spec` for a model of this shape.
    ///
    /// # Errors
    /// [`crate::Error::Spec`] with every list of ratios that does not fit the model's layers.
    pub fn resolve(spec: &Spec, config: &LlamaConfig) -> Result<Self> {
        // What a layout costs alone is part of the comparison; what costs nothing is there whatever the layouts are.
        let mut all = Vec::new();
        if spec.run.baseline {
            let quantized = spec.caches.iter().copied().filter(Option::is_some);
            all.extend(std::iter::once(None).chain(quantized).map(SessionPlan::baseline));
        }
        all.extend(sessions(&spec.presses, &spec.sweep, config.num_hidden_layers)?);
        Ok(Self { model: spec.model.clone(), task: spec.task.clone(), run: spec.run.clone(), sessions: all })
    }

    /// The plan as it is stored.
    ///
    /// # Errors
    /// A path is not Unicode.
    pub fn to_json(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|error| crate::Error::input(format!("the plan: {error}")))
    }
}
