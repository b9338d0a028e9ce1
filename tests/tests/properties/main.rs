//! Properties that hold for every input: selections, caches, attention, batches, questions.

mod attention;
mod caches;
mod decoding;
mod dtypes;
mod model_files;
mod contexts;
mod pipeline;
mod presses;
mod support;
mod views;
