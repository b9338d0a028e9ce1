//! The model: where its files come from.

pub mod hub;
pub mod import;
