//! Presses that decide over all layers at once, after the prefill.

use tch::Tensor;

use super::{Budget, ModelFacts, Needs, Selection};
use crate::cache::KvCache;
use crate::error::Result;
use crate::model::Llama;
use crate::view::LayerView;

/// A compression method that decides when the whole context has been prefilled: budgets move between layers, or
/// the context is replayed through the model to see what it reads.
///
/// Its session holds the full cache until the decision. Scores are computed once for all budgets.
pub trait ContextPress: Send + Sync {
    /// Name and parameters; equal identities score and decide equally.
    fn identity(&self) -> String;

    /// What [`Self::observe`] reads of a layer.
    fn needs(&self) -> Needs {
        Needs::KEYS_AND_VALUES
    }

    /// Reads what the method needs to know of the model, once, before any context.
    ///
    /// # Errors
    /// Side data is missing, damaged or another model's.
    fn prepare(&self, _model: &ModelFacts) -> Result<()> {
        Ok(())
    }

    /// What is remembered of a layer of the prefill for [`Self::score`].
    ///
    /// # Errors
    /// A tensor operation fails.
    fn observe(&self, _view: &LayerView<'_>) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Scores of every layer, each float32 `[kv_heads, entries]`, of the entries that the context's cache holds
    /// when this returns (a method may append entries of its own).
    ///
    /// # Errors
    /// A pass through the model fails.
    fn score(&self, context: &mut Context<'_>) -> Result<Vec<Tensor>>;

    /// Decides on every layer, `budgets` being one for each. All scores are on the model's last device.
    ///
    /// # Errors
    /// A tensor operation fails.
    fn select(&self, scores: &[Tensor], budgets: &[Budget]) -> Result<Vec<Selection>>;
}

/// A prefilled context, and the model to replay it through.
pub struct Context<'a> {
    /// The model.
    pub model: &'a Llama,
    /// The context's token ids.
    pub tokens: &'a [i64],
    /// How the context stands in its prompt.
    pub prompt: PromptParts<'a>,
    /// The full cache: nothing evicted. Passes append to it and roll back.
    pub cache: &'a mut KvCache,
    /// What [`ContextPress::observe`] remembered, by layer.
    pub observed: &'a [Option<Tensor>],
}

/// The parts of a prompt around a context.
#[derive(Clone, Copy)]
pub struct PromptParts<'a> {
    /// Tokens at the context's start that belong to the chat template.
    pub prefix_tokens: usize,
    /// Tokens that the template puts after the user's text, up to where the answer begins.
    pub suffix: &'a [i64],
    /// Tokenizes text of the user.
    pub encode: &'a dyn Fn(&str) -> Result<Vec<i64>>,
}
