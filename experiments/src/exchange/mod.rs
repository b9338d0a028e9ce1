//! Results in kvpress's layout: a folder for each press and ratio with `predictions.csv`, `metrics.json` and
//! `config.yaml`, as its leaderboard takes them.

mod config;
mod export;
mod import;
mod names;
mod questions;
mod results;

pub use export::{Naming, export};
pub use import::import;
pub use questions::{Asked, questions, read_questions};
