//! Pressroom: KV-cache compression for Llama-family models.
//!
//! *Prefill is a broadcast*: one pass of a context through the model serves every subscriber. After each layer's
//! attention the model publishes a [`view::LayerView`]; every press session decides what to keep and builds its own
//! compressed [`cache::KvCache`]; the layer's full keys and values are then dropped.

pub mod cache;
pub mod error;
pub mod hooks;
pub mod model;
pub mod panics;
pub mod pipeline;
pub mod plan;
pub mod press;
pub mod random;
pub mod spec;
pub mod tensors;
pub mod torch_archive;
pub mod view;

pub use error::{Error, Result};
