//! `pressroom merge`: the answers of several machines in one folder.

use anyhow::Result;

use super::print;
use crate::cli::MergeArgs;
use crate::report::{Run, compare, terminal};
use crate::results;

/// Runs `merge`.
///
/// # Errors
/// The folders are of different runs, or answer a question differently; the output cannot be written.
pub fn merge(args: &MergeArgs) -> Result<()> {
    let folders = if args.folders.is_empty() { results::attempts(&args.output)? } else { args.folders.clone() };
    results::merge(&args.output, &folders)?;
    print(&terminal::text(&compare(&[Run::read(&args.output)?])))
}
