//! Presses: what they declare, what they decide, how they are described, found and composed.

mod budget;
mod chain;
mod compose;
mod context;
mod decoding;
mod describe;
mod facts;
mod method;
mod needs;
mod params;
mod registry;
mod scorer;
mod selection;
mod side_data;
mod wrapper;

pub use budget::Budget;
pub use chain::{ContextStage, Pipeline, Stage};
pub use context::{Context, ContextPress, PromptParts};
pub use decoding::{DecodingPress, Origin, StepHook, StepView};
pub use describe::{Budgeting, Kind, PressInfo, Wraps};
pub use facts::ModelFacts;
pub use method::Method;
pub use needs::{Needs, Span};
pub use params::{ParamInfo, ParamType, ParamValue, Params, Range, Value, check_params, dedent, with_defaults};
pub use registry::{Built, Entry, Registry, missing_inner, nearest};
pub use scorer::{Scored, Scorer};
pub use selection::{Edits, Kept, RaggedIndices, Selection};
pub use side_data::SideData;
pub use wrapper::{Around, Wrapper};

use crate::error::Result;
use crate::view::LayerView;

/// A compression method: declares what it reads, then decides what each KV head keeps.
///
/// A press returns a decision, not tensors; the cache applies it.
pub trait Press: Send + Sync {
    /// Name and parameters, as in `adakv(alpha_safeguard=0.2, press=knorm)`. Equal identities decide equally.
    fn identity(&self) -> String;

    /// What it reads of a layer.
    fn needs(&self) -> Needs;

    /// Whether KV heads may keep different numbers (the cache becomes ragged).
    fn head_wise(&self) -> bool {
        false
    }

    /// Whether the keys kept move to other positions, so that later ones count from the kept length.
    fn moves_keys(&self) -> bool {
        false
    }

    /// Reads what the method needs to know of the model, once, before any context.
    ///
    /// # Errors
    /// Side data is missing, damaged or another model's.
    fn prepare(&self, _model: &ModelFacts) -> Result<()> {
        Ok(())
    }

    /// Decides on one layer.
    ///
    /// # Errors
    /// The view is too short for the press, or a tensor operation fails.
    fn select(&self, view: &LayerView<'_>, budget: Budget) -> Result<Selection>;

    /// Decides on a layer whose KV heads hold different numbers of entries, each head being a view of its own.
    /// Unless a press lets heads share their budget, each is decided on by itself.
    ///
    /// # Errors
    /// As [`Self::select`].
    fn select_heads(&self, heads: &[LayerView<'_>], budget: Budget) -> Result<Selection> {
        Selection::of_each(heads, |head| self.select(head, budget))
    }
}
