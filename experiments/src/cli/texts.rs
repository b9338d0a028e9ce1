//! Commands that read texts: `ask` and `calibrate`.

use std::path::PathBuf;

use clap::Args;
use pressroom::cache::Bits;
use pressroom::plan::DtypeChoice;

use super::Hardware;

use crate::engine::DEFAULT_MODEL;

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
    /// Where the model runs
    #[command(flatten)]
    pub hardware: Hardware,
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
    /// Where the model runs
    #[command(flatten)]
    pub hardware: Hardware,
}
