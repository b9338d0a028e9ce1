//! The command line, as data: parsing, help, completions and the man page come from these definitions.

mod bench;
mod catalogue;
mod experiments;
mod hardware;
mod results;
mod texts;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use bench::{BenchArgs, BenchLayout};
pub use catalogue::{ModelCommand, PluginCommand, PressCommand, PressCostArgs};
pub use experiments::{ExperimentArgs, MergeArgs, RunArgs, SlurmArgs, SubmitCommand};
pub use hardware::Hardware;
pub use results::{DiffArgs, ExportArgs, ImportArgs, ReportArgs, ShowArgs};
pub use texts::{AskArgs, CalibrateArgs};

/// Compress the KV cache of Llama-family models, and measure what it costs.
#[derive(Debug, Parser)]
#[command(name = "pressroom", version, arg_required_else_help = true)]
pub struct Cli {
    /// Say more about what happens (-v, -vv); RUST_LOG refines it
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an experiment: presses x ratios x samples, from a TOML file
    Run(RunArgs),
    /// Write what runs found as one HTML page with figures, and as files
    Report(ReportArgs),
    /// Show what presses kept of one sample, over its text, and why an answer was lost
    Show(ShowArgs),
    /// Say where two runs differ, which is nothing for equal ones
    Diff(DiffArgs),
    /// Put the answers of several run folders of one run together
    Merge(MergeArgs),
    /// Run an experiment on the machines of a cluster
    Submit {
        /// Which cluster
        #[command(subcommand)]
        command: SubmitCommand,
    },
    /// Ask questions about a text, answered from its compressed cache
    Ask(AskArgs),
    /// Measure prefill and decoding speed beside the memory's
    Bench(BenchArgs),
    /// List the presses, or show one
    Press {
        /// What to show
        #[command(subcommand)]
        command: PressCommand,
    },
    /// Make the side data of a press for a model, from texts
    Calibrate(CalibrateArgs),
    /// Make, check, list or show press plugins
    Plugin {
        /// What to do with plugins
        #[command(subcommand)]
        command: PluginCommand,
    },
    /// Import, fetch, list or describe models
    Model {
        /// What to do with models
        #[command(subcommand)]
        command: ModelCommand,
    },
    /// Write the answers of a run in another program's layout
    Export(ExportArgs),
    /// Turn another program's results into a run folder
    Import(ImportArgs),
    /// Print the JSON Schema of experiments: docs/experiment.schema.json is what this prints
    Schema {
        /// A plugin's library, whose presses the schema is to know too; repeat it for several
        #[arg(long, value_name = "LIB")]
        plugin: Vec<PathBuf>,
    },
    /// Say what is installed, which version, and what is missing
    Doctor,
    /// Print shell completions
    Completions {
        /// Shell to complete for
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff)
    Man,
    /// Pressroom itself, as the process of an isolated plugin
    #[command(hide = true)]
    PluginWorker {
        /// What the host passes on
        arguments: Vec<String>,
    },
}
