//! What the model publishes of one layer after its attention: the press's window on the world.

use std::cell::RefCell;
use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use crate::error::{During, Error, Result};
use crate::model::Rotary;
use crate::press::{Kept, Needs, Scorer, Selection, Span};
use crate::random::derive_seed;

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

/// The optional parts of a view, as far as the subscribers' [`Needs`] asked for them.
#[derive(Debug, Default)]
pub struct Materialised {
    /// `[batch, context_tokens, hidden]`
    pub hidden_states: Option<Tensor>,
    /// The last queries before rotary embedding, `[batch, heads, n, head_dim]`
    pub queries: Option<Tensor>,
    /// Attention weights of the last queries, float32 `[batch, heads, n, keys]`
    pub attention: Option<Tensor>,
}

/// One layer's keys and values, and what its subscribers asked to see beside them.
///
/// Keys, values and attention columns are those still *in question*: all of the context at first; after
/// a stage of a chain, what that stage left. Queries and hidden states are those of the whole context.
/// Shapes are `[batch, kv_heads, tokens, head_dim]`.
pub struct LayerView<'a> {
    layer: usize,
    geometry: Geometry,
    context_tokens: i64,
    keys: Tensor,
    values: Tensor,
    /// `None` while nothing was evicted: entry `i` is position `i`.
    positions: Option<Tensor>,
    parts: Materialised,
    rotary: &'a Rotary,
    seed: u64,
    rankings: RefCell<HashMap<String, Ranking>>,
}

/// A scorer's verdict on a view, shared by every ratio that uses it.
struct Ranking {
    scores: Tensor,
    order: Option<Tensor>,
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
        let rankings = RefCell::default();
        Ok(Self {
            layer,
            geometry,
            context_tokens: tokens,
            keys,
            values,
            positions: None,
            parts,
            rotary,
            seed: 0,
            rankings,
        })
    }

    /// The same view, with the seed that random presses derive theirs from.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// What random presses without a seed of their own derive one from: the run's and the layer's.
    pub fn seed(&self) -> u64 {
        derive_seed(self.seed, self.layer as u64)
    }

    /// Layer index, from 0.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// The model's attention geometry.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Sequences in the view.
    pub fn batch(&self) -> i64 {
        self.keys.size()[0]
    }

    /// Entries per KV head in question.
    pub fn tokens(&self) -> i64 {
        self.keys.size()[2]
    }

    /// Tokens of the uncompressed context: the next token's position.
    pub fn context_tokens(&self) -> i64 {
        self.context_tokens
    }

    /// Where the tensors live.
    pub fn device(&self) -> Device {
        self.keys.device()
    }

    /// Keys after rotary embedding, `[batch, kv_heads, tokens, head_dim]`.
    pub fn keys(&self) -> &Tensor {
        &self.keys
    }

    /// Values, `[batch, kv_heads, tokens, head_dim]`.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// The model's rotary embedding.
    pub fn rotary(&self) -> &Rotary {
        self.rotary
    }

    /// Position of each entry in the uncompressed context, int64, broadcastable to `[batch, kv_heads, tokens]`.
    ///
    /// # Errors
    /// libtorch cannot allocate.
    pub fn positions(&self) -> Result<Tensor> {
        match &self.positions {
            Some(positions) => Ok(positions.shallow_clone()),
            None => Ok(Tensor::f_arange(self.tokens(), (Kind::Int64, self.device()))?.f_view([1, 1, -1])?),
        }
    }

    /// Hidden states that enter the attention block, `[batch, context_tokens, hidden]`.
    ///
    /// # Errors
    /// The press did not declare them.
    pub fn hidden_states(&self) -> Result<&Tensor> {
        self.parts.hidden_states.as_ref().ok_or_else(|| undeclared("hidden states"))
    }

    /// Queries before rotary embedding of the tokens in `span`, `[batch, heads, n, head_dim]`.
    ///
    /// # Errors
    /// The press did not declare as many.
    pub fn queries(&self, span: Span) -> Result<Tensor> {
        last(self.parts.queries.as_ref(), span, self.context_tokens, "queries")
    }

    /// Queries after rotary embedding of the tokens in `span`, float32 `[batch, heads, n, head_dim]`.
    ///
    /// # Errors
    /// The press did not declare as many queries.
    pub fn rotated_queries(&self, span: Span) -> Result<Tensor> {
        let queries = self.queries(span)?.f_to_kind(Kind::Float)?;
        let count = queries.size()[2];
        let start = self.context_tokens - count;
        let positions = Tensor::f_arange_start(start, self.context_tokens, (Kind::Int64, self.device()))?;
        let (cos, sin) = self.rotary.tables(&positions, queries.kind())?;
        Rotary::rotate(&queries, &cos, &sin)
    }

    /// Attention weights of the tokens in `span` over the entries, float32 `[batch, heads, n, tokens]`.
    ///
    /// # Errors
    /// The press did not declare as many.
    pub fn attention(&self, span: Span) -> Result<Tensor> {
        last(self.parts.attention.as_ref(), span, self.context_tokens, "attention weights")
    }

    /// The scorer's scores of this view, computed once however many sessions ask.
    /// Float32 `[batch, kv_heads, tokens]`; plus infinity marks entries that are always kept.
    ///
    /// # Errors
    /// The scorer fails, returns another shape, NaN or minus infinity.
    pub fn scores(&self, scorer: &dyn Scorer) -> Result<Tensor> {
        let identity = scorer.identity();
        if let Some(ranking) = self.rankings.borrow().get(&identity) {
            return Ok(ranking.scores.shallow_clone());
        }
        let scores = scorer.score(self)?.f_to_kind(Kind::Float)?;
        let expected = [self.batch(), self.geometry.kv_heads, self.tokens()];
        if scores.size() != expected {
            return Err(Error::input(format!("{identity} gave scores {:?}, {expected:?} was due", scores.size())));
        }
        let unusable = scores.f_isnan()?.f_logical_or(&scores.f_isneginf()?)?.f_any()?.f_int64_value(&[])?;
        if unusable != 0 {
            return Err(Error::input(format!("{identity} gave scores that are NaN or minus infinity")));
        }
        let ranking = Ranking { scores: scores.shallow_clone(), order: None };
        self.rankings.borrow_mut().insert(identity, ranking);
        Ok(scores)
    }

    /// The entries of each head from most to least important, int64 `[batch, kv_heads, tokens]`.
    /// Ties go to the earlier entry, so the best `k` are always among the best `k + 1`.
    ///
    /// # Errors
    /// As [`Self::scores`].
    pub fn ranking(&self, scorer: &dyn Scorer) -> Result<Tensor> {
        let scores = self.scores(scorer)?;
        let identity = scorer.identity();
        if let Some(order) = self.rankings.borrow().get(&identity).and_then(|ranking| ranking.order.as_ref()) {
            return Ok(order.shallow_clone());
        }
        let (_, order) = scores.f_sort_stable(true, -1, true).during("sorting scores", &[&scores])?;
        if let Some(ranking) = self.rankings.borrow_mut().get_mut(&identity) {
            ranking.order = Some(order.shallow_clone());
        }
        Ok(order)
    }

    /// The view that is left after a selection of the same number of entries per head: what the next
    /// stage of a chain sees.
    ///
    /// # Errors
    /// The selection is ragged.
    pub fn restrict(&self, selection: &Selection) -> Result<LayerView<'a>> {
        let gather = |data: &Tensor, indices: &Tensor| -> Result<Tensor> {
            let wide = indices.f_unsqueeze(-1)?.f_expand([-1, -1, -1, self.geometry.head_dim], false)?;
            data.f_gather(2, &wide, false).during("restricting a view", &[data, indices])
        };
        let (keys, values, positions, attention) = match selection.kept() {
            Kept::All => (
                self.keys.shallow_clone(),
                self.values.shallow_clone(),
                self.positions.as_ref().map(Tensor::shallow_clone),
                self.parts.attention.as_ref().map(Tensor::shallow_clone),
            ),
            Kept::Uniform(indices) => {
                let all = self.positions()?.f_expand([indices.size()[0], indices.size()[1], -1], false)?;
                let attention = match &self.parts.attention {
                    Some(weights) => Some(restrict_columns(weights, indices, self.geometry.group())?),
                    None => None,
                };
                (
                    gather(&self.keys, indices)?,
                    gather(&self.values, indices)?,
                    Some(all.f_gather(2, indices, false)?),
                    attention,
                )
            }
            Kept::Ragged(_) => {
                return Err(Error::input("a stage that keeps a different number per KV head must end its chain"));
            }
        };
        let parts = Materialised {
            hidden_states: self.parts.hidden_states.as_ref().map(Tensor::shallow_clone),
            queries: self.parts.queries.as_ref().map(Tensor::shallow_clone),
            attention,
        };
        Ok(LayerView { keys, values, positions, parts, rankings: RefCell::default(), ..*self })
    }
}

/// Keeps of attention weights `[batch, heads, n, keys]` the columns that each query head's KV head kept.
fn restrict_columns(weights: &Tensor, indices: &Tensor, group: i64) -> Result<Tensor> {
    let (_, heads, queries, _) = weights.size4()?;
    let columns = indices.f_repeat_interleave_self_int(group, 1, None)?.f_unsqueeze(2)?;
    let columns = columns.f_expand([-1, heads, queries, -1], false)?;
    weights.f_gather(3, &columns, false).during("restricting attention weights", &[weights, indices])
}

/// The last tokens of `data`, `[batch, heads, n, _]`, that `span` covers.
fn last(data: Option<&Tensor>, span: Span, tokens: i64, what: &str) -> Result<Tensor> {
    let wanted = span.of(tokens);
    match data {
        Some(data) if data.size()[2] >= wanted => Ok(data.f_narrow(2, data.size()[2] - wanted, wanted)?),
        _ => Err(undeclared(what)),
    }
}

fn undeclared(what: &str) -> Error {
    Error::input(format!("reads {what} that its needs do not declare"))
}

/// What has to be materialised of a layer for a set of subscribers.
pub fn union_of(needs: impl IntoIterator<Item = Needs>) -> Needs {
    needs.into_iter().fold(Needs::KEYS_AND_VALUES, Needs::union)
}
