//! Commands about presses, plugins and models.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use pressroom::plan::DtypeChoice;

use super::Hardware;

use crate::engine::DEFAULT_MODEL;

/// Commands about presses.
#[derive(Debug, Subcommand)]
pub enum PressCommand {
    /// All presses, a line each
    List,
    /// One press: idea, formula, what it reads, parameters, paper
    Show {
        /// Its name
        name: String,
    },
    /// Which presses can follow which in a chain, in Markdown
    Chains,
    /// All of it in Markdown: docs/presses.md is what this prints
    Docs,
    /// Time presses on a model's first layer: a pipeline in a line of TOML in, a line of JSON out
    Cost(PressCostArgs),
}

/// Arguments of `press cost`.
#[derive(Debug, Args)]
pub struct PressCostArgs {
    /// Name of a model, or a folder in Hugging Face layout (no tokenizer is needed)
    #[arg(long, value_name = "NAME|FOLDER", default_value = DEFAULT_MODEL)]
    pub model: String,
    /// Tokens of context
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub tokens: usize,
    /// Tokens of a visible question at its end, for presses that read one
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub question_tokens: i64,
    /// Times that a press runs for each line
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rounds: usize,
    /// auto | f32 | bf16 | f16
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    pub dtype: DtypeChoice,
    /// Where the model runs
    #[command(flatten)]
    pub hardware: Hardware,
}

/// Commands about plugins.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Make a crate with a press, which builds and passes its tests at once
    New {
        /// The folder to make; its name is the crate's
        #[arg(value_name = "NAME")]
        folder: PathBuf,
        /// Pressroom's folder plugins/sdk [default: the one that this program was built beside]
        #[arg(long, value_name = "FOLDER")]
        sdk: Option<PathBuf>,
    },
    /// The presses of a library, a line each
    List {
        /// The library
        lib: PathBuf,
    },
    /// One press of a library (or all): idea, formula, what it reads, parameters, paper
    Show {
        /// The library
        lib: PathBuf,
        /// Name of the press
        name: Option<String>,
    },
    /// Test a library against everything that the interface asks for, each check in a process of its own
    Check {
        /// The library
        lib: PathBuf,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
        /// Seed of the numbers in the layers
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
        /// Seconds that a check may take
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        time_limit_s: u64,
    },
}

/// Commands about models.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Models that can be used by name
    List,
    /// Architecture, size of the weights, KV bytes per token and of a context
    Info {
        /// Name, folder, or ORG/NAME of a fetched model of the hub
        name: String,
        /// Tokens of context
        #[arg(long, value_name = "N")]
        context: Option<u64>,
        /// Dtype of weights and cache
        #[arg(long, value_name = "DTYPE", default_value = "f16")]
        dtype: DtypeChoice,
    },
    /// Turn a GGUF file into a model folder
    Import {
        /// The GGUF file
        file: PathBuf,
        /// Name of the model [default: the file's name]
        #[arg(long)]
        name: Option<String>,
        /// Dtype of the stored weights; f32 loses nothing
        #[arg(long, value_name = "DTYPE", default_value = "f32")]
        dtype: DtypeChoice,
    },
    /// Fetch a model from the Hugging Face hub
    Fetch {
        /// ORG/NAME on the hub
        repo: String,
        /// Branch, tag or commit
        #[arg(long, value_name = "REVISION")]
        revision: Option<String>,
    },
}
