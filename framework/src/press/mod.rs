//! Presses: what they declare, what they decide, how they are described, found and composed.

mod budget;
mod chain;
mod describe;
mod needs;
mod registry;
mod scorer;
mod selection;

pub use budget::Budget;
pub use chain::{Pipeline, Stage};
pub use describe::{Kind, ParamInfo, ParamType, ParamValue, Params, PressInfo, Range, Value, dedent};
pub use needs::{Needs, Span};
pub use registry::{Built, Entry, Registry, missing_inner, nearest};
pub use scorer::{Scored, Scorer};
pub use selection::{Kept, RaggedIndices, Selection};

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

    /// Decides on one layer.
    ///
    /// # Errors
    /// The view is too short for the press, or a tensor operation fails.
    fn select(&self, view: &LayerView<'_>, budget: Budget) -> Result<Selection>;
}
