//! Properties that hold for every input: selections, caches, attention, batches, questions.

mod attention;
mod caches;
mod generator;
mod pipeline;
mod presses;
mod support;
