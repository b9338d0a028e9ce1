//! Presses of the decoding phase: they compress while answers grow.

use tch::{Kind, Tensor};

use super::{ModelFacts, Needs, Selection};
use crate::cache::LayerCache;
use crate::error::Result;
use crate::model::Rotary;
use crate::view::{Geometry, LayerView};

/// A compression method that watches the tokens after the context and evicts as the cache grows.
pub trait DecodingPress: Send + Sync {
    /// Name and parameters; equal identities decide equally.
    fn identity(&self) -> String;

    /// What it reads of the new tokens.
    fn needs(&self) -> Needs;

    /// Reads what the method needs to know of the model, once, before any context.
    ///
    /// # Errors
    /// Side data is missing, damaged or another model's.
    fn prepare(&self, _model: &ModelFacts) -> Result<()> {
        Ok(())
    }

    /// What is remembered of a layer of the prefill for [`Self::start`]: the whole context, before any press evicts.
    /// A press that reads more than keys and values here comes with one of the prefill that declares it.
    ///
    /// # Errors
    /// A tensor operation fails.
    fn observe(&self, _view: &LayerView<'_>) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// What watches one sequence that grows from a compressed context.
    fn start(&self, origin: Origin<'_>) -> Box<dyn StepHook + Send>;
}

/// The compressed context that a sequence grows from.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// Positions of the keys that the prefill left, `[layer][kv head][kept]`.
    pub positions: &'a [Vec<Vec<i64>>],
    /// What [`DecodingPress::observe`] remembered, by layer.
    pub observed: &'a [Option<Tensor>],
    /// What random presses derive their seeds from.
    pub seed: u64,
}

/// Sees the new tokens of one sequence at every layer of a forward pass.
pub trait StepHook {
    /// Called for every layer after the attention of new tokens, whose keys and values the cache holds already.
    /// Gives what the cache is to keep of all its entries; `None` leaves it as it is.
    ///
    /// # Errors
    /// An error ends the pass.
    fn on_layer(&mut self, step: &StepView<'_>) -> Result<Option<Selection>>;
}

/// New tokens of one sequence at one layer, after their attention.
pub struct StepView<'a> {
    /// Layer index, from 0.
    pub layer: usize,
    /// The model's attention geometry.
    pub geometry: Geometry,
    /// The model's rotary embedding.
    pub rotary: &'a Rotary,
    /// Position of the first new token.
    pub position: i64,
    /// The attention block's input (after its RMSNorm), `[n, hidden]`.
    pub hidden_states: &'a Tensor,
    /// Queries before rotary embedding, `[heads, n, head_dim]`.
    pub queries: &'a Tensor,
    /// The weight of the attention block's output projection, `[hidden, heads * head_dim]`.
    pub output_projection: &'a Tensor,
    /// All entries of the sequence, the new ones last.
    pub cache: &'a LayerCache,
}

impl StepView<'_> {
    /// Number of new tokens.
    pub fn tokens(&self) -> i64 {
        self.queries.size()[1]
    }

    /// Position of the token that comes next.
    pub fn end(&self) -> i64 {
        self.position + self.tokens()
    }

    /// Queries after rotary embedding at their positions, float32 `[heads, n, head_dim]`.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn rotated_queries(&self) -> Result<Tensor> {
        let positions = Tensor::f_arange_start(self.position, self.end(), (Kind::Int64, self.queries.device()))?;
        let (cos, sin) = self.rotary.tables(&positions, Kind::Float)?;
        Rotary::rotate(&self.queries.f_to_kind(Kind::Float)?, &cos, &sin)
    }
}
