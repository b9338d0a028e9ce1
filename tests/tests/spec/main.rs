//! Experiments in TOML: what is read, what is refused with which words, and what it becomes.

mod golden;
mod plan;
mod properties;
mod support;
