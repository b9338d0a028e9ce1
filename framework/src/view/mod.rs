//! What the model publishes of one layer after its attention: the press's window on the world.

mod attend;
mod parts;
mod scores;
mod sub;

use tch::{Device, Kind, Tensor};

pub use parts::Materialised;

use crate::error::{Error, Result};
use crate::model::Rotary;
use crate::press::{Needs, Span};
use crate::random::derive_seed;
use scores::Scores;

/// Head counts and sizes of the attention of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Geometry {
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: i64,
    /// Key/value heads; `heads / kv_heads` query heads form the query group of one.
    pub kv_heads: i64,
    /// Channels of a head.
    pub head_dim: i64,
}

impl Geometry {
    /// Query heads that share a KV head.
    pub fn group(&self) -> i64 {
        self.heads / self.kv_heads
    }
}

/// One layer's keys and values, and what its subscribers asked to see beside them.
///
/// Keys, values and attention columns are those still *in question*: all of the context at first; after
/// a stage of a chain, what that stage left. Queries and hidden states are those of the whole context.
/// Shapes are `[batch, kv_heads, tokens, head_dim]`.
pub struct LayerView<'a> {
    layer: usize,
    geometry: Geometry,
    /// Index in the model of the view's first KV head.
    first_kv_head: i64,
    /// Positions that the view is about: of the context, or of a slice of it.
    context: std::ops::Range<i64>,
    /// Tokens of a visible question at the context's end.
    question_tokens: i64,
    keys: Tensor,
    values: Tensor,
    /// `None` while nothing was evicted: entry `i` is at `context.start + i`.
    positions: Option<Tensor>,
    parts: Materialised,
    rotary: &'a Rotary,
    seed: u64,
    scores: Scores,
}

impl<'a> LayerView<'a> {
    /// A view of a whole layer. `keys` are after rotary embedding, at positions `0..tokens`.
    ///
    /// # Errors
    /// Shapes that do not fit the geometry.
    pub fn new(
        layer: usize,
        geometry: Geometry,
        keys: Tensor,
        values: Tensor,
        parts: Materialised,
        rotary: &'a Rotary,
    ) -> Result<Self> {
        let (_, kv_heads, tokens, head_dim) = keys.size4()?;
        if (kv_heads, head_dim) != (geometry.kv_heads, geometry.head_dim) || values.size() != keys.size() {
            return Err(Error::input(format!(
                "keys {:?} and values {:?} do not fit {} KV heads of {} channels",
                keys.size(),
                values.size(),
                geometry.kv_heads,
                geometry.head_dim
            )));
        }
        Ok(Self {
            layer,
            geometry,
            first_kv_head: 0,
            context: 0..tokens,
            question_tokens: 0,
            keys,
            values,
            positions: None,
            parts,
            rotary,
            seed: 0,
            scores: Scores::default(),
        })
    }

    /// The same view, with the seed that random presses derive theirs from.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The same view of a context whose last `tokens` tokens are a visible question.
    pub fn with_question(self, tokens: i64) -> Self {
        Self { question_tokens: tokens, ..self }
    }

    /// The same view of entries that lie at `positions`, int64 broadcastable to `[batch, kv_heads, tokens]`, of a
    /// sequence whose next token is at `end`.
    pub fn at(self, positions: Tensor, end: i64) -> Self {
        Self { positions: Some(positions), context: 0..end, ..self }
    }

    /// The same view of tokens that follow `start` others.
    pub fn starting_at(self, start: i64) -> Self {
        let context = start..start + self.tokens();
        Self { context, ..self }
    }

    /// The same view of the model's KV heads from `first` on.
    pub fn of_kv_heads_from(self, first: i64) -> Self {
        Self { first_kv_head: first, ..self }
    }

    /// What random presses without a seed of their own derive one from: the run's and the layer's.
    pub fn seed(&self) -> u64 {
        derive_seed(self.seed, self.layer as u64)
    }

    /// Layer index, from 0.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// The attention geometry of what is in view.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Rows of a per-layer table `[.., kv_heads of the model, ..]` that belong to the view's KV heads, along `dim`.
    ///
    /// # Errors
    /// The table has fewer rows.
    pub fn own_heads(&self, table: &Tensor, dim: i64) -> Result<Tensor> {
        Ok(table.f_narrow(dim, self.first_kv_head, self.geometry.kv_heads)?)
    }

    /// Sequences in the view.
    pub fn batch(&self) -> i64 {
        self.keys.size()[0]
    }

    /// Entries per KV head in question.
    pub fn tokens(&self) -> i64 {
        self.keys.size()[2]
    }

    /// Tokens of the uncompressed context, or of the slice of it that is in view.
    pub fn context_tokens(&self) -> i64 {
        self.context.end - self.context.start
    }

    /// Position of the token that follows the context in view.
    pub fn context_end(&self) -> i64 {
        self.context.end
    }

    /// Tokens of a visible question at the context's end; 0 where the question is hidden.
    pub fn question_tokens(&self) -> i64 {
        self.question_tokens
    }

    /// Whether the view is of a cache while it is decoded from, not of a context that is being read.
    pub fn decoding(&self) -> bool {
        self.parts.observed_tokens.is_some()
    }

    /// Where the tensors live.
    pub fn device(&self) -> Device {
        self.keys.device()
    }

    /// Keys after rotary embedding, `[batch, kv_heads, tokens, head_dim]`.
    pub fn keys(&self) -> &Tensor {
        &self.keys
    }

    /// Keys before rotary embedding, float32 `[batch, kv_heads, tokens, head_dim]`.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn unrotated_keys(&self) -> Result<Tensor> {
        self.rotary.unrotate(&self.keys.f_to_kind(Kind::Float)?, &self.positions()?, self.context.end)
    }

    /// Values, `[batch, kv_heads, tokens, head_dim]`.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// The model's rotary embedding.
    pub fn rotary(&self) -> &'a Rotary {
        self.rotary
    }

    /// Position of each entry in the uncompressed context, int64, broadcastable to `[batch, kv_heads, tokens]`.
    ///
    /// # Errors
    /// libtorch cannot allocate.
    pub fn positions(&self) -> Result<Tensor> {
        match &self.positions {
            Some(positions) => Ok(positions.shallow_clone()),
            None => {
                let (start, end) = (self.context.start, self.context.start + self.tokens());
                Ok(Tensor::f_arange_start(start, end, (Kind::Int64, self.device()))?.f_view([1, 1, -1])?)
            }
        }
    }

    /// Whether each entry is one of the first `n` tokens of the context, bool, broadcastable to
    /// `[batch, kv_heads, tokens]`.
    ///
    /// # Errors
    /// libtorch cannot allocate.
    pub fn first(&self, n: usize) -> Result<Tensor> {
        Ok(self.positions()?.f_lt(self.context.start.saturating_add(n as i64))?)
    }

    /// Whether each entry is one of the last `n` tokens of the context, bool, broadcastable to
    /// `[batch, kv_heads, tokens]`.
    ///
    /// # Errors
    /// libtorch cannot allocate.
    pub fn last(&self, n: usize) -> Result<Tensor> {
        Ok(self.positions()?.f_ge(self.context.end.saturating_sub(n as i64))?)
    }

    /// Hidden states that enter the attention block, `[batch, n, hidden]`: of all tokens of the context (while
    /// decoding, of those that were kept in memory).
    ///
    /// # Errors
    /// The press did not declare them.
    pub fn hidden_states(&self) -> Result<&Tensor> {
        self.parts.hidden_states.as_ref().ok_or_else(|| parts::undeclared("hidden states"))
    }

    /// Per-token data `[batch, kv_heads, context_tokens, ..]` at the entries in question: what is computed from
    /// hidden states is computed for every token of the context, and read where a token is still there.
    ///
    /// # Errors
    /// The data is not that of all tokens of the context.
    pub fn at_entries(&self, per_token: &Tensor) -> Result<Tensor> {
        let known = per_token.size().get(2).copied().unwrap_or(0);
        if known != self.context_tokens() {
            return Err(Error::input(format!(
                "hidden states are known of {known} of {} tokens: a press that reads those of every token cannot \
                 decide on old tokens while decoding",
                self.context_tokens()
            )));
        }
        let Some(positions) = &self.positions else { return Ok(per_token.shallow_clone()) };
        let (batch, kv_heads) = (self.batch(), self.geometry.kv_heads);
        let indices = positions.f_sub_scalar(self.context.start)?.f_expand([batch, kv_heads, self.tokens()], false)?;
        crate::press::Kept::Uniform(indices).pick(per_token)
    }

    /// Data of the entries, `[batch, kv_heads, tokens]`, at the tokens of the context,
    /// `[batch, kv_heads, context_tokens]`: 0 where a token is not there any more. The inverse of [`Self::at_entries`].
    ///
    /// # Errors
    /// The data is not that of the entries.
    pub fn at_tokens(&self, per_entry: &Tensor) -> Result<Tensor> {
        let Some(positions) = &self.positions else { return Ok(per_entry.shallow_clone()) };
        let (batch, kv_heads) = (self.batch(), self.geometry.kv_heads);
        let indices = positions.f_sub_scalar(self.context.start)?.f_expand([batch, kv_heads, self.tokens()], false)?;
        let nothing =
            Tensor::f_zeros([batch, kv_heads, self.context_tokens()], (per_entry.kind(), per_entry.device()))?;
        Ok(nothing.f_scatter(2, &indices, per_entry)?)
    }

    /// Queries before rotary embedding of the tokens in `span`, `[batch, heads, n, head_dim]`.
    ///
    /// # Errors
    /// The press did not declare as many.
    pub fn queries(&self, span: Span) -> Result<Tensor> {
        parts::last(self.parts.queries.as_ref(), span, self.observed_tokens(), "queries")
    }

    /// Queries after rotary embedding of the tokens in `span`, float32 `[batch, heads, n, head_dim]`.
    ///
    /// # Errors
    /// The press did not declare as many queries.
    pub fn rotated_queries(&self, span: Span) -> Result<Tensor> {
        let queries = self.queries(span)?.f_to_kind(Kind::Float)?;
        let start = self.context.end - queries.size()[2];
        let positions = Tensor::f_arange_start(start, self.context.end, (Kind::Int64, self.device()))?;
        let (cos, sin) = self.rotary.tables(&positions, queries.kind())?;
        Rotary::rotate(&queries, &cos, &sin)
    }

    /// Attention weights of the tokens in `span` over the entries, float32 `[batch, heads, n, tokens]`.
    ///
    /// # Errors
    /// The press did not declare as many.
    pub fn attention(&self, span: Span) -> Result<Tensor> {
        parts::last(self.parts.attention.as_ref(), span, self.observed_tokens(), "attention weights")
    }

    /// Attention that each entry received from all queries of the context, float32 `[batch, heads, tokens]`.
    ///
    /// # Errors
    /// The press did not declare it.
    pub fn attention_sums(&self) -> Result<&Tensor> {
        self.parts.attention_sums.as_ref().ok_or_else(|| parts::undeclared("attention sums"))
    }

    /// The weight of the attention block's output projection, `[hidden, heads * head_dim]`.
    ///
    /// # Errors
    /// The press did not declare it.
    pub fn output_projection(&self) -> Result<&Tensor> {
        self.parts.output_projection.as_ref().ok_or_else(|| parts::undeclared("the output projection"))
    }

    /// How many tokens at the context's end queries are known of: while decoding, fewer than the context has.
    fn observed_tokens(&self) -> i64 {
        self.parts.observed_tokens.map_or(self.context_tokens(), |observed| observed.min(self.context_tokens()))
    }
}

/// What has to be materialised of a layer for a set of subscribers.
pub fn union_of(needs: impl IntoIterator<Item = Needs>) -> Needs {
    needs.into_iter().fold(Needs::KEYS_AND_VALUES, Needs::union)
}
