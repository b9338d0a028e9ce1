//! The optional parts of a view, and how they follow its entries.

use tch::Tensor;

use crate::error::{During, Error, Result};
use crate::press::Span;

/// The optional parts of a view, as far as the subscribers' needs asked for them.
#[derive(Debug, Default)]
pub struct Materialised {
    /// `[batch, context_tokens, hidden]`
    pub hidden_states: Option<Tensor>,
    /// The last queries before rotary embedding, `[batch, heads, n, head_dim]`
    pub queries: Option<Tensor>,
    /// Attention weights of the last queries, float32 `[batch, heads, n, keys]`
    pub attention: Option<Tensor>,
    /// Attention weights summed over all queries, float32 `[batch, heads, keys]`
    pub attention_sums: Option<Tensor>,
    /// Weight of the output projection, `[hidden, heads * head_dim]`
    pub output_projection: Option<Tensor>,
    /// While decoding: how many tokens at the end hidden states and queries are known of. `None`: all.
    pub observed_tokens: Option<i64>,
}

impl Materialised {
    /// The same parts with other attention columns.
    pub(super) fn with_columns(&self, keep: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let same = |part: &Option<Tensor>| part.as_ref().map(Tensor::shallow_clone);
        Ok(Self {
            hidden_states: same(&self.hidden_states),
            queries: same(&self.queries),
            attention: self.attention.as_ref().map(&keep).transpose()?,
            attention_sums: self.attention_sums.as_ref().map(&keep).transpose()?,
            output_projection: same(&self.output_projection),
            observed_tokens: self.observed_tokens,
        })
    }

    /// The parts of the query heads `first..first + count` of heads of `head_dim` channels.
    pub(super) fn of_heads(&self, first: i64, count: i64, head_dim: i64) -> Result<Self> {
        let own = |part: &Option<Tensor>| part.as_ref().map(|part| part.f_narrow(1, first, count)).transpose();
        let output = self.output_projection.as_ref();
        Ok(Self {
            hidden_states: self.hidden_states.as_ref().map(Tensor::shallow_clone),
            queries: own(&self.queries)?,
            attention: own(&self.attention)?,
            attention_sums: own(&self.attention_sums)?,
            output_projection: output.map(|w| w.f_narrow(1, first * head_dim, count * head_dim)).transpose()?,
            observed_tokens: self.observed_tokens,
        })
    }

    /// The parts of the tokens `start..end` of a context of `tokens` tokens.
    pub(super) fn of_tokens(&self, start: i64, end: i64, tokens: i64) -> Result<Self> {
        // Of the last `n` rows, those between `start` and `end`.
        let rows = |part: &Tensor, dim: i64| -> Result<Tensor> {
            let first = tokens - part.size()[dim as usize];
            let (from, to) = (start.max(first), end.max(first));
            Ok(part.f_narrow(dim, from - first, to - from)?)
        };
        let of = |part: &Option<Tensor>, dim: i64| part.as_ref().map(|part| rows(part, dim)).transpose();
        Ok(Self {
            hidden_states: of(&self.hidden_states, 1)?,
            queries: of(&self.queries, 2)?,
            attention: of(&self.attention, 2)?,
            ..self.with_columns(|columns| Ok(columns.shallow_clone()))?
        })
    }
}

/// Keeps of attention over keys, `[batch, heads, .., keys]`, the columns that each query head's KV head kept,
/// `indices` being `[batch, kv_heads, kept]`.
pub(super) fn restrict_columns(weights: &Tensor, indices: &Tensor, group: i64) -> Result<Tensor> {
    let mut columns = indices.f_repeat_interleave_self_int(group, 1, None)?;
    let size = weights.size();
    if let [_, heads, queries, _] = size[..] {
        columns = columns.f_unsqueeze(2)?.f_expand([-1, heads, queries, -1], false)?;
    }
    weights.f_gather(-1, &columns, false).during("restricting attention weights", &[weights, indices])
}

/// The last tokens of `data`, `[batch, heads, n, _]`, that `span` covers.
pub(super) fn last(data: Option<&Tensor>, span: Span, tokens: i64, what: &str) -> Result<Tensor> {
    let wanted = span.of(tokens);
    match data {
        Some(data) if data.size()[2] >= wanted => Ok(data.f_narrow(2, data.size()[2] - wanted, wanted)?),
        _ => Err(undeclared(what)),
    }
}

pub(super) fn undeclared(what: &str) -> Error {
    Error::input(format!("reads {what} that its needs do not declare"))
}
