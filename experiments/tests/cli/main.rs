//! The real binary: on the real model where an answer counts, on a tiny one where an error does.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod calibrate;
mod devices;
mod gpu;
mod help;
mod models;
mod pretend;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;

const NEEDLE: &str = "The bakery opens at six. The password of the lighthouse is marmalade. Ships pass at night, and the \
    keeper sleeps by day. Nobody swims in the harbour in winter, because the water is cold and the stones are sharp.";

/// A context file.
fn context(folder: &Path, text: &str) -> String {
    let path = folder.join("context.txt");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}
