//! Commands that run experiments.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::sweep::Shard;

/// An experiment, as `run` and `submit` take it.
#[derive(Debug, Args)]
pub struct ExperimentArgs {
    /// The experiment
    pub file: PathBuf,
    /// Override a value of the file, as in task.samples=5
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Go on without the samples that cannot be read or asked; the records of the latter say why
    #[arg(long)]
    pub keep_going: bool,
    /// A plugin's library, whose presses the file may name; repeat it for several
    #[arg(long, value_name = "LIB")]
    pub plugin: Vec<PathBuf>,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The experiment
    #[command(flatten)]
    pub experiment: ExperimentArgs,
    /// Print what would be done, and what it would take, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Show no table of how the presses stand while the run goes on, and no progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Only part i of n, into a folder of its own below the output; `pressroom merge` puts the parts together
    #[arg(long, value_name = "i/n")]
    pub shard: Option<Shard>,
}

/// Arguments of `merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The folder for all answers; what it holds already stays
    pub output: PathBuf,
    /// Run folders [default: the folders shard-* of the output]
    pub folders: Vec<PathBuf>,
}

/// Clusters.
#[derive(Debug, Subcommand)]
pub enum SubmitCommand {
    /// Write and submit a job array of Slurm, and a job that merges
    Slurm(SlurmArgs),
}

/// Arguments of `submit slurm`.
#[derive(Debug, Args)]
pub struct SlurmArgs {
    /// The experiment
    #[command(flatten)]
    pub experiment: ExperimentArgs,
    /// Print what would be submitted, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Nodes that work at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub nodes: u64,
    /// Minutes that a task of the array should take, by this machine's speed
    #[arg(long, value_name = "M", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub minutes: u64,
    /// Further arguments of sbatch, after --
    #[arg(last = true, value_name = "SBATCH ARGUMENT")]
    pub sbatch: Vec<String>,
}
