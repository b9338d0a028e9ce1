//! What a press reads, declared as data.

/// How many of the last tokens something is read for. Ordered: `None < Last(n) < All`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// Not read.
    #[default]
    None,
    /// Read for the last `n` tokens of the context.
    Last(usize),
    /// Read for every token.
    All,
}

impl Span {
    /// Number of tokens covered in a context of `tokens`.
    pub fn of(self, tokens: i64) -> i64 {
        match self {
            Self::None => 0,
            Self::Last(n) => tokens.min(i64::try_from(n).unwrap_or(i64::MAX)),
            Self::All => tokens,
        }
    }
}

/// What a subscriber reads of a layer besides its keys, values and positions, which are always there.
///
/// The model materialises the union of what its subscribers declare and nothing else; reading
/// something undeclared is an error. Being data, needs also decide which combinations can work
/// before anything is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The attention block's input (after its RMSNorm), `[batch, tokens, hidden]`.
    pub hidden_states: bool,
    /// Queries before rotary embedding, `[batch, heads, tokens, head_dim]`.
    pub queries: Span,
    /// Attention weights of these queries over all keys, `[batch, heads, tokens, keys]`.
    pub attention: Span,
    /// What each key received: the attention weights summed over all queries, `[batch, heads, keys]`. The matrix
    /// itself is never held.
    pub attention_sums: bool,
    /// The weight of the attention block's output projection, `[hidden, heads * head_dim]`.
    pub output_projection: bool,
}

impl Needs {
    /// Keys, values and positions only.
    pub const KEYS_AND_VALUES: Self = Self {
        hidden_states: false,
        queries: Span::None,
        attention: Span::None,
        attention_sums: false,
        output_projection: false,
    };

    /// The same for every token, where something is read for the last ones.
    pub fn everywhere(self) -> Self {
        let all = |span: Span| if span == Span::None { Span::None } else { Span::All };
        Self { queries: all(self.queries), attention: all(self.attention), ..self }
    }

    /// What satisfies both.
    pub fn union(self, other: Self) -> Self {
        Self {
            hidden_states: self.hidden_states || other.hidden_states,
            queries: self.queries.max(other.queries),
            attention: self.attention.max(other.attention),
            attention_sums: self.attention_sums || other.attention_sums,
            output_projection: self.output_projection || other.output_projection,
        }
    }
}

impl std::fmt::Display for Needs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "keys, values")?;
        let span = |f: &mut std::fmt::Formatter<'_>, what: &str, span: Span| match span {
            Span::None => Ok(()),
            Span::Last(n) => write!(f, ", {what} of the last {n} tokens"),
            Span::All => write!(f, ", {what} of all tokens"),
        };
        span(f, "queries", self.queries)?;
        span(f, "attention weights", self.attention)?;
        let others = [
            (self.attention_sums, "attention sums"),
            (self.hidden_states, "hidden states"),
            (self.output_projection, "the output projection"),
        ];
        others.iter().filter(|(read, _)| *read).try_for_each(|(_, what)| write!(f, ", {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn union_takes_the_wider_span_of_each() {
        let snap = Needs { queries: Span::Last(64), ..Needs::default() };
        let expected = Needs { queries: Span::All, hidden_states: true, ..Needs::default() };
        assert_eq!(snap.union(expected), expected);
        assert_eq!(snap.union(Needs { queries: Span::Last(8), ..Needs::default() }), snap);
    }

    #[test]
    fn a_span_never_exceeds_the_context() {
        assert_eq!(Span::Last(64).of(10), 10);
        assert_eq!(Span::Last(usize::MAX).of(10), 10);
        assert_eq!(Span::None.of(10), 0);
        assert_eq!(Span::All.of(10), 10);
    }
}
