//! `bench`.

use std::path::PathBuf;

use clap::Args;
use pressroom::plan::DtypeChoice;

use super::Hardware;

use crate::engine::DEFAULT_MODEL;

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Name of a model, or a folder in Hugging Face layout
    #[arg(long, value_name = "NAME|FOLDER", default_value = DEFAULT_MODEL)]
    pub model: String,
    /// Tokens of context; several, separated by commas
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1024,4096")]
    pub context: Vec<usize>,
    /// Layouts of the cache
    #[arg(long, value_name = "LAYOUT,..", value_delimiter = ',', default_value = "dense,half,ragged")]
    pub layout: Vec<BenchLayout>,
    /// Sequences decoded together
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,4")]
    pub batch: Vec<usize>,
    /// Tokens decoded in each round
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub new_tokens: usize,
    /// Rounds of each measurement; medians are shown, with the fastest and the slowest
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rounds: usize,
    /// auto | f32 | bf16 | f16
    #[arg(long, value_name = "DTYPE", default_value = "auto")]
    pub dtype: DtypeChoice,
    /// Where the model runs
    #[command(flatten)]
    pub hardware: Hardware,
    /// Print one JSON object
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Print a page that names the machine by its properties
    #[arg(long)]
    pub markdown: bool,
    /// Print the tables of a report that was made elsewhere: by --json, or by tests/gpu/run.py on a GPU
    #[arg(long, value_name = "FILE", exclusive = true)]
    pub show: Option<PathBuf>,
}

/// How `bench` stores the context's KV pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BenchLayout {
    /// Everything, as many pairs in every head
    Dense,
    /// Half of the pairs, as many in every head (knorm at 0.5)
    Half,
    /// Half of the pairs, a number of its own in every head (adakv of knorm at 0.5)
    Ragged,
    /// Everything, in 8 bits
    Int8,
    /// Everything, in 4 bits
    Int4,
    /// Everything, in 2 bits
    Int2,
}

impl std::fmt::Display for BenchLayout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dense => "dense",
            Self::Half => "half",
            Self::Ragged => "ragged",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Int2 => "int2",
        })
    }
}
