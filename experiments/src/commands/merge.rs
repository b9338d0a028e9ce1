//! `pressroom merge`: the answers of several machines in one folder.

use std::path::{Path, PathBuf};

use anyhow::Result;
use pressroom::Error;

use super::print;
use crate::cli::MergeArgs;
use crate::report::{Run, compare, terminal};
use crate::results;

/// Runs `merge`.
///
/// # Errors
/// The folders are of different runs, or answer a question differently; the output cannot be written.
pub fn merge(args: &MergeArgs) -> Result<()> {
    let folders = if args.folders.is_empty() { shards(&args.output)? } else { args.folders.clone() };
    results::merge(&args.output, &folders)?;
    print(&terminal::text(&compare(&[Run::read(&args.output)?])))
}

/// The folders that `run --shard` makes in `output`.
fn shards(output: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(output).map_err(Error::io(output))?;
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("shard-")));
    folders.sort();
    Ok(folders)
}
