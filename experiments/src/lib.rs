//! Experiments: tasks, the runner, its results, and the `pressroom` command line.
#![forbid(unsafe_code)]

pub mod cli;
mod commands;
mod engine;
mod exchange;
mod html;
mod job;
mod live;
mod plugins;
mod python;
mod replay;
mod report;
mod results;
mod selections;
mod show;
mod statistics;
mod sweep;
mod system;
mod table;
mod task;

pub use commands::dispatch;
