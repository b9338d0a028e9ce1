//! Compression at intervals while an answer grows.

use std::sync::Arc;

use pressroom::press::{Budget, DecodingPress, Kept, ModelFacts, Needs, Origin, Press, Selection, StepHook, StepView};
use pressroom::{Error, Result};

use crate::running::Running;

/// When a growing cache is compressed, and to what size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interval {
    /// Passes between compressions.
    pub(crate) passes: usize,
    /// Of all tokens seen, how many are kept.
    pub(crate) target: Budget,
    /// Earlier tokens whose hidden states and queries are remembered.
    pub(crate) buffer: usize,
}

impl Interval {
    /// Whether it is time, after `passes` passes, of which `step` is the last.
    pub(crate) fn is_over(&self, passes: usize, step: &StepView<'_>) -> bool {
        passes >= self.passes || step.tokens() >= self.target.kept(step.end())
    }
}

/// The press that lets another compress a growing cache at intervals.
pub struct AtIntervals {
    identity: String,
    interval: Interval,
    base: Arc<dyn Press>,
}

impl AtIntervals {
    /// `name`, known by `identity`, lets `base` decide whenever the interval is over.
    ///
    /// # Errors
    /// `base` cannot decide on a cache that grows.
    pub(crate) fn new(name: &str, identity: String, interval: Interval, base: Arc<dyn Press>) -> Result<Self> {
        if base.moves_keys() {
            return Err(Error::input(format!(
                "{} moves keys to new positions, which a cache that goes on growing cannot: `{name}` cannot wrap it",
                base.identity()
            )));
        }
        Ok(Self { identity, interval, base })
    }
}

impl DecodingPress for AtIntervals {
    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn needs(&self) -> Needs {
        self.base.needs()
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.base.prepare(model)
    }

    fn start(&self, origin: Origin<'_>) -> Box<dyn StepHook + Send> {
        let running = Running::new(origin, self.base.needs(), self.interval.buffer);
        Box::new(Periodic { base: self.base.clone(), interval: self.interval, running })
    }
}

/// Lets `base` decide whenever the interval is over.
struct Periodic {
    base: Arc<dyn Press>,
    interval: Interval,
    running: Running,
}

impl Periodic {
    fn decide(&self, step: &StepView<'_>, target: i64) -> Result<Selection> {
        let budget = Budget::from_tokens(usize::try_from(target).unwrap_or(usize::MAX))?;
        let views = self.running.views(step)?;
        let (selection, entries) = match &views[..] {
            [view] if view.geometry().kv_heads == step.geometry.kv_heads => {
                let selection = self.base.select(view, budget)?;
                selection.check(1, step.geometry.kv_heads, view.tokens())?;
                (selection, view.tokens())
            }
            heads => (self.base.select_heads(heads, budget)?, 0),
        };
        let heads = step.geometry.kv_heads;
        let kept: i64 = match selection.kept() {
            Kept::All => step.cache.lengths().iter().sum(),
            _ => selection.to_lists(heads as usize, entries)?.iter().map(|head| head.len() as i64).sum(),
        };
        if kept > heads * target && kept > 0 {
            return Err(Error::input(format!(
                "{} kept {kept} of the entries of {heads} KV heads where {target} of each are the target: it has a \
                 budget of its own and cannot be a base press",
                self.base.identity()
            )));
        }
        Ok(selection)
    }
}

impl StepHook for Periodic {
    fn on_layer(&mut self, step: &StepView<'_>) -> Result<Option<Selection>> {
        let passes = self.running.note(step)?;
        if !self.interval.is_over(passes, step) {
            return Ok(None);
        }
        let selection = self.decide(step, self.interval.target.kept(step.end()))?;
        self.running.compressed(step, &selection)?;
        let unchanged = matches!(selection.kept(), Kept::All) && selection.edits().is_empty();
        Ok((!unchanged).then_some(selection))
    }
}
