//! Properties that hold for every input: selections, caches, attention, batches, questions.

mod attention;
mod caches;
mod contexts;
mod decoding;
mod dtypes;
mod edits;
mod generator;
mod likelihood;
mod model_files;
mod pipeline;
mod presses;
mod quantized;
mod sharing;
mod slices;
mod support;
mod views;
