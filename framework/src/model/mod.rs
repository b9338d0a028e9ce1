//! The model: where its files come from.

pub mod import;
