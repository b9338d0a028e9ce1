//! Experiments: tasks, the runner, its results, and the `pressroom` command line.
#![forbid(unsafe_code)]

pub mod cli;
mod commands;
mod engine;
mod plugins;
mod results;
mod statistics;
mod sweep;
mod task;

pub use commands::dispatch;
