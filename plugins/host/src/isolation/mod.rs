//! A press in a child process: what it breaks there is not the host's.
//!
//! The child runs the same program as the host, as `PROGRAM plugin-worker PATH SHA256 MEMORY SECONDS`. Requests and
//! replies go over a socket (its standard input), tensors over shared memory (its standard output): inputs, which
//! it can only read, and results, each before a forbidden page.

mod client;
mod memory;
mod wire;
mod worker;

pub(crate) use client::ending;
pub use client::{Isolated, describe};
pub use worker::run as run_worker;

use std::path::PathBuf;

/// First argument of the program as a child.
pub const WORKER: &str = "plugin-worker";

/// How much a child may take, and which program it runs.
#[derive(Clone, Debug)]
pub struct Isolation {
    /// The program, which passes its arguments after [`WORKER`] to [`run_worker`].
    pub program: PathBuf,
    /// Seconds for one call.
    pub seconds: u64,
    /// MiB of memory beside the program's own.
    pub memory_mib: u64,
}
