//! `pressroom export` and `pressroom import`: results in kvpress's layout.

use anyhow::Result;

use super::print;
use crate::cli::{ExportArgs, ImportArgs};
use crate::exchange::{self, Naming};

/// Runs `export`.
///
/// # Errors
/// There is no such run, or a results folder is there already or cannot be written.
pub fn export(args: &ExportArgs) -> Result<()> {
    let naming = Naming { dataset: args.dataset.clone(), data_dir: args.data_dir.clone() };
    let folders = exchange::export(&args.run, &args.folder, &naming)?;
    print(&folders.iter().map(|folder| format!("{}\n", folder.display())).collect::<String>())
}

/// Runs `import`.
///
/// # Errors
/// There are no such results, they do not belong together, or the run folder is another run's.
pub fn import(args: &ImportArgs) -> Result<()> {
    let answers = exchange::import(&args.folder, &args.run, args.question)?;
    print(&format!("{answers} answers, question {}: {}\n", args.question, args.run.display()))
}
