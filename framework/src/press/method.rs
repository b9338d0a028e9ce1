//! The ways in which a press decides, and which of them can follow one another.

use std::sync::Arc;

use super::{ContextPress, DecodingPress, ModelFacts, Needs, Press};
use crate::error::Result;

/// A configured press by the way it decides.
#[derive(Clone)]
pub enum Method {
    /// Layer by layer, during the prefill.
    Layer(Arc<dyn Press>),
    /// Over all layers at once, after the prefill.
    Context(Arc<dyn ContextPress>),
    /// While decoding, and perhaps during the prefill too.
    Phases {
        /// Decides during the prefill.
        prefill: Option<Arc<dyn Press>>,
        /// Decides while decoding.
        decoding: Arc<dyn DecodingPress>,
    },
}

impl Method {
    /// Names and parameters.
    pub fn identity(&self) -> String {
        match self {
            Self::Layer(press) => press.identity(),
            Self::Context(press) => press.identity(),
            Self::Phases { prefill: Some(prefill), decoding } => {
                format!("{} > {}", prefill.identity(), decoding.identity())
            }
            Self::Phases { prefill: None, decoding } => decoding.identity(),
        }
    }

    /// What it reads of a layer during the prefill.
    pub fn needs(&self) -> Needs {
        match self {
            Self::Layer(press) | Self::Phases { prefill: Some(press), .. } => press.needs(),
            Self::Context(press) => press.needs(),
            Self::Phases { prefill: None, .. } => Needs::KEYS_AND_VALUES,
        }
    }

    /// Whether KV heads may keep different numbers during the prefill.
    pub fn head_wise(&self) -> bool {
        match self {
            Self::Layer(press) | Self::Phases { prefill: Some(press), .. } => press.head_wise(),
            Self::Context(_) => true,
            Self::Phases { prefill: None, .. } => false,
        }
    }

    /// Reads what the method needs to know of the model.
    ///
    /// # Errors
    /// Side data is missing, damaged or another model's.
    pub fn prepare(&self, model: &ModelFacts) -> Result<()> {
        match self {
            Self::Layer(press) => press.prepare(model),
            Self::Context(press) => press.prepare(model),
            Self::Phases { prefill, decoding } => {
                prefill.iter().try_for_each(|press| press.prepare(model))?;
                decoding.prepare(model)
            }
        }
    }

    /// What it leaves of a cache, in a few words: methods of which the same is said can stand in the same places of a
    /// chain.
    pub fn leaves(&self) -> &'static str {
        match self {
            Self::Layer(press) if press.moves_keys() => "keys at new positions",
            Self::Layer(press) if press.head_wise() => "a number per KV head",
            Self::Layer(_) => "one number for all KV heads",
            Self::Context(_) => "decided on the whole context",
            Self::Phases { prefill: None, .. } => "compressed while decoding",
            Self::Phases { prefill: Some(_), .. } => "compressed in both phases",
        }
    }

    /// Why `next` cannot follow `self` in a chain, if it cannot.
    pub fn refuses(&self, next: &Self) -> Option<&'static str> {
        match (self, next) {
            (Self::Phases { .. }, _) => Some("compresses while decoding, so it must end its chain"),
            (Self::Context(_), Self::Phases { prefill: None, .. }) => None,
            (Self::Context(_), _) => Some("decides after the whole prefill, so no press of the prefill can follow it"),
            (_, Self::Context(_)) => Some("cannot come before a press that replays the whole context"),
            (Self::Layer(press), _) if press.moves_keys() => {
                Some("moves keys to new positions, so it must end its chain")
            }
            _ if self.head_wise() && next.head_wise() => {
                Some("keeps a different number per KV head, and so does the next: one budget cannot be shared twice")
            }
            _ => None,
        }
    }
}
