//! Experiments in TOML: what is read, what is refused with which words, and what it becomes.
#![allow(clippy::unwrap_used, clippy::panic)]

mod golden;
mod plan;
mod properties;
mod schema;
mod support;
