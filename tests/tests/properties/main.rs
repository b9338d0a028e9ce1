//! Properties that hold for every input: selections, caches, attention, batches, questions.

mod attention;
mod caches;
mod contexts;
mod pipeline;
mod presses;
mod support;
