//! The two kinds of press that an author writes.

use std::error::Error;

use pressroom_plugin_abi::PRESSROOM_ALL_TOKENS;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{Budget, Scores, Selection, View};

/// Result of a press; any error, and plain text by `.into()`, will do.
pub type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How many of the last tokens something is read for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    pub(crate) fn count(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Last(n) => n as u64,
            Self::All => PRESSROOM_ALL_TOKENS,
        }
    }
}

/// What a press reads of a layer: keys and values unless it says otherwise, and always positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Keys. Without, they are not copied where the press is shown copies: in a process of its own, or on a GPU.
    pub keys: bool,
    /// Values, as keys.
    pub values: bool,
    /// Queries before rotary embedding.
    pub queries: Span,
    /// Queries after rotary embedding.
    pub rotated_queries: Span,
    /// Attention weights.
    pub attention: Span,
    /// What enters the attention block.
    pub hidden_states: bool,
    /// Attention that each entry received from all queries.
    pub attention_sums: bool,
    /// The weight of the attention block's output projection.
    pub output_projection: bool,
    /// Tensors are shown where they lie, on a CUDA device too, and the scores are due there (scorers only). Without,
    /// what lies on a device is copied to the processor first, and every tensor can be read as an array.
    ///
    /// A press that declares it reads with `tch()` and writes with `torch::write`, of the feature `tch`.
    pub on_device: bool,
}

impl Default for Needs {
    /// Keys, values and positions.
    fn default() -> Self {
        Self {
            keys: true,
            values: true,
            queries: Span::None,
            rotated_queries: Span::None,
            attention: Span::None,
            hidden_states: false,
            attention_sums: false,
            output_projection: false,
            on_device: false,
        }
    }
}

/// The model whose cache is compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Its folder's name, or its hub id.
    pub name: String,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
}

/// Ranks KV pairs: the best of each head are kept, and wrappers can use the scores.
///
/// The implementing struct holds the parameters; its fields and doc comments are what users see.
pub trait Scorer: DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// Name in TOML: small letters, digits and underscores.
    const NAME: &'static str;

    /// What it reads: keys, values and positions unless it says otherwise.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Whether the parameters go together; types and ranges are checked already.
    ///
    /// # Errors
    /// They do not; the text says why.
    fn check(&self) -> Result {
        Ok(())
    }

    /// Looks at the model, before any context; what is to be remembered of it goes into a `OnceLock` or the like.
    ///
    /// A host without the extension `pressroom.prepare/1` never calls it.
    ///
    /// # Errors
    /// The press cannot work with this model; the text says why.
    fn prepare(&self, _model: &Model) -> Result {
        Ok(())
    }

    /// Scores every entry: higher is kept longer, plus infinity always. Neither NaN nor minus infinity.
    ///
    /// # Errors
    /// What the method cannot do; the text ends the session.
    fn score(&self, view: &View<'_>, scores: &mut Scores<'_>) -> Result;
}

/// Decides itself which entries each KV head keeps.
///
/// The implementing struct holds the parameters; its fields and doc comments are what users see.
pub trait Selector: DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// Name in TOML: small letters, digits and underscores.
    const NAME: &'static str;

    /// Whether KV heads may keep different numbers (the cache becomes ragged).
    const HEAD_WISE: bool;

    /// What it reads: keys, values and positions unless it says otherwise.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Whether the parameters go together; types and ranges are checked already.
    ///
    /// # Errors
    /// They do not; the text says why.
    fn check(&self) -> Result {
        Ok(())
    }

    /// Looks at the model, before any context; what is to be remembered of it goes into a `OnceLock` or the like.
    ///
    /// A host without the extension `pressroom.prepare/1` never calls it.
    ///
    /// # Errors
    /// The press cannot work with this model; the text says why.
    fn prepare(&self, _model: &Model) -> Result {
        Ok(())
    }

    /// Says with [`Selection::keep`] what each KV head keeps.
    ///
    /// # Errors
    /// What the method cannot do; the text ends the session.
    fn select(&self, view: &View<'_>, budget: Budget, selection: &mut Selection<'_>) -> Result;
}
