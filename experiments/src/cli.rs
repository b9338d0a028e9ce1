//! The command line, as data: parsing, help, completions and the man page come from these definitions.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use pressroom::cache::Bits;
use pressroom::pipeline::Regime;
use pressroom::plan::{DeviceChoice, DtypeChoice};

use crate::engine::DEFAULT_MODEL;
use crate::sweep::Shard;

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
    /// Only part i of n, into a folder of its own below the output; `pressroom merge` puts the parts together
    #[arg(long, value_name = "i/n")]
    pub shard: Option<Shard>,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Folders of runs; what was asked under the same conditions stands in one table
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// Folder for index.html and the figures, SVG and PNG
    #[arg(long, value_name = "FOLDER", default_value = "report")]
    pub output: PathBuf,
    /// Write the tables as Markdown too, with links to the figures
    #[arg(long, value_name = "FILE.md")]
    pub markdown: Option<PathBuf>,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Folder of a run with [run] selections = true
    pub run: PathBuf,
    /// Index of the sample
    pub sample: usize,
    /// Label of the press [default: a line for each press]
    #[arg(long, value_name = "LABEL")]
    pub press: Option<String>,
    /// Ratio of the press [default: the lowest at which it lost the answer]
    #[arg(long, value_name = "R", requires = "press")]
    pub ratio: Option<f64>,
    /// Label of a press to compare with
    #[arg(long, value_name = "PRESS", requires = "press")]
    pub against: Option<String>,
    /// One layer alone, from 0 on [default: all together]
    #[arg(long, value_name = "N", requires = "press")]
    pub layer: Option<usize>,
    /// Which of the sample's questions, from 0 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub turn: usize,
    /// Write a page instead
    #[arg(long, value_name = "FILE.html", requires = "press")]
    pub html: Option<PathBuf>,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Folder of a run
    pub before: PathBuf,
    /// Folder of another
    pub now: PathBuf,
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

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The run folder
    pub run: PathBuf,
    /// The folder that gets a results folder for each press and ratio
    pub folder: PathBuf,
    /// As kvpress's leaderboard takes them: predictions.csv, metrics.json, config.yaml
    #[arg(long, required = true)]
    pub kvpress: bool,
    /// Name of the data set [default: the file's or the task's]
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
    /// Name of the data set's part, such as 4096
    #[arg(long, value_name = "NAME")]
    pub data_dir: Option<String>,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A results folder of kvpress, or one that holds several
    pub folder: PathBuf,
    /// The run folder to make
    pub run: PathBuf,
    /// Which results: presses saw the question (visible), or not
    #[arg(long, value_name = "hidden|visible", default_value = "hidden", value_parser = regime)]
    pub question: Regime,
}

fn regime(name: &str) -> Result<Regime, String> {
    match name {
        "hidden" => Ok(Regime::Hidden),
        "visible" => Ok(Regime::Visible),
        _ => Err("hidden or visible".into()),
    }
}

/// Arguments of `ask`.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// File with the text, - for standard input
    #[arg(long, value_name = "FILE|-")]
    pub context: String,
    /// A question; repeat it for several, each is answered from the same compressed cache
    #[arg(long, value_name = "TEXT", required = true)]
    pub question: Vec<String>,
    /// How every answer begins
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub answer_prefix: String,
    /// Name of a model, a folder in Hugging Face layout, or the ORG/NAME of a fetched model of the hub
    #[arg(long, value_name = "NAME|FOLDER|ORG/NAME", default_value = DEFAULT_MODEL)]
    pub model: String,
    /// Press by name, with default parameters; none: nothing is compressed
    #[arg(long, value_name = "NAME", conflicts_with = "pipeline")]
    pub press: Option<String>,
    /// TOML file with one [[press]] table, and perhaps [cache]
    #[arg(long, value_name = "FILE.toml")]
    pub pipeline: Option<PathBuf>,
    /// A plugin's library, whose presses may be named; repeat it for several
    #[arg(long, value_name = "LIB")]
    pub plugin: Vec<PathBuf>,
    /// Fraction of the KV pairs that is removed, for a press that has no compression_ratio of its own
    #[arg(long, value_name = "R")]
    pub ratio: Option<f64>,
    /// Bits of a number in the compressed cache: 2, 4 or 8 (a pipeline's [cache] says more) [default: as the model computes]
    #[arg(long, value_name = "N", value_parser = bits, conflicts_with = "pipeline")]
    pub cache_bits: Option<Bits>,
    /// Put the question into the compressed text
    #[arg(long)]
    pub visible: bool,
    /// Use the text as it is, without the model's chat template
    #[arg(long)]
    pub raw: bool,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub max_new_tokens: usize,
    /// Longest context, tokens; longer ones lose their end [default: what the model can take]
    #[arg(long, value_name = "N")]
    pub max_context_length: Option<usize>,
    /// Go on after the token that ends an answer
    #[arg(long)]
    pub ignore_eos: bool,
    /// Seed of presses that draw random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// auto | f32 | bf16 | f16; auto: bf16 where the processor has bf16 arithmetic or a GPU does the work, else f32
    #[arg(long, value_name = "DTYPE", default_value = "auto")]
    pub dtype: DtypeChoice,
    /// cpu | cuda:N | auto | cuda:0=16,cuda:1=16: the layers on each
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceChoice,
    /// Threads of the tensor operations [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=4096))]
    pub threads: Option<i32>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Print the rendered prompt to standard error
    #[arg(long)]
    pub show_prompt: bool,
}

fn bits(text: &str) -> Result<Bits, String> {
    let known = Bits::ALL.into_iter().find(|bits| bits.count().to_string() == text);
    known.ok_or_else(|| "a number has 2, 4 or 8 bits".to_owned())
}

/// Arguments of `calibrate`.
#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// The press: qfilter, expected_attention_stats, duo_attention, headkv, lukv or kvzap
    pub press: String,
    /// Name of a model, or a folder in Hugging Face layout
    #[arg(long, value_name = "NAME|FOLDER", default_value = DEFAULT_MODEL)]
    pub model: String,
    /// Texts to learn from
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub text: Vec<PathBuf>,
    /// Where the side data goes [default: where the press looks for it]
    #[arg(long, value_name = "FOLDER")]
    pub output: Option<PathBuf>,
    /// Tokens that are read at a time
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub tokens: usize,
    /// Most times that so many tokens are read, from all over the texts
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub samples: usize,
    /// For lukv: the scorer that it is going to wrap [default: expected_attention with epsilon = 0.02]
    #[arg(long, value_name = "NAME")]
    pub scorer: Option<String>,
    /// auto | f32 | bf16 | f16; auto: bf16 where the processor has bf16 arithmetic or a GPU does the work, else f32
    #[arg(long, value_name = "DTYPE", default_value = "auto")]
    pub dtype: DtypeChoice,
    /// cpu | cuda:N | auto | cuda:0=16,cuda:1=16: the layers on each
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceChoice,
    /// Threads of the tensor operations [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=4096))]
    pub threads: Option<i32>,
}

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
    /// cpu | cuda:N | auto | cuda:0=16,cuda:1=16: the layers on each
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceChoice,
    /// Threads of the tensor operations [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=4096))]
    pub threads: Option<i32>,
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
    /// cpu | cuda:N | auto
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceChoice,
    /// Threads of the tensor operations [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=4096))]
    pub threads: Option<i32>,
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
