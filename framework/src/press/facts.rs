//! What a press may know of the model before it sees a context.

use crate::view::Geometry;

/// Facts about the model that a press prepares itself for: side data is looked up and checked with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFacts {
    /// The model's name: its folder's, or its hub id.
    pub name: String,
    /// Attention geometry.
    pub geometry: Geometry,
    /// Width of the hidden states.
    pub hidden_size: i64,
}
