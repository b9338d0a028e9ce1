//! A model ready to answer: weights, tokenizer, chat template.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pressroom::model::{ChatTemplate, GenerationConfig, Llama, LoadOptions, ModelFolder, Placement, TextTokenizer};
use pressroom::pipeline::{Compressed, ContextTokens, Prompt, PromptOptions, Question, compress, place_layers};
use pressroom::plan::{DeviceChoice, DtypeChoice, SessionPlan};
use pressroom::press::{ModelFacts, Pipeline, PromptParts};
use pressroom::{Error, Result};
use tch::Kind;

/// What turns text into a model's tokens; it needs no weights.
pub struct Texts {
    /// The tokenizer.
    pub tokenizer: TextTokenizer,
    /// The chat template, if there is one.
    pub template: Option<ChatTemplate>,
    /// Positions that the model has.
    positions: usize,
}

impl Texts {
    /// Reads tokenizer and template of a model.
    ///
    /// # Errors
    /// The folder's files are missing or broken.
    pub fn read(folder: &ModelFolder) -> Result<Self> {
        Ok(Self {
            tokenizer: TextTokenizer::read(folder.path())?,
            template: ChatTemplate::read(folder.path())?,
            positions: usize::try_from(folder.config().max_position_embeddings).unwrap_or(0),
        })
    }

    /// Positions of the model that are left for context and question beside an answer of `max_new_tokens`.
    pub fn room(&self, max_new_tokens: usize) -> usize {
        self.positions.saturating_sub(max_new_tokens)
    }

    /// Tokenizes a context and its questions with the model's template.
    ///
    /// # Errors
    /// See [`Prompt::build`].
    pub fn prompt(&self, context: &str, questions: &[Question], options: PromptOptions) -> Result<Prompt> {
        Prompt::build(context, questions, self.template.as_ref(), &self.tokenizer, options)
    }
}

/// A loaded model with everything that turns text into answers.
pub struct Engine {
    /// Name in reports.
    pub name: String,
    /// The model.
    pub model: Llama,
    /// What turns text into its tokens.
    pub texts: Texts,
    /// When answers end.
    pub generation: GenerationConfig,
    /// Seconds that loading took.
    pub load_s: f64,
}

impl Engine {
    /// Loads a model.
    ///
    /// # Errors
    /// The device cannot be used; the folder's files are missing or broken.
    pub fn load(folder: &ModelFolder, device: &DeviceChoice, dtype: DtypeChoice) -> Result<Self> {
        let (placement, kind) = place_layers(device, folder.config(), dtype)?;
        Self::on(folder, Texts::read(folder)?, placement, kind)
    }

    /// Loads the model of some texts on open devices.
    ///
    /// # Errors
    /// The folder's files are missing or broken.
    pub fn on(folder: &ModelFolder, texts: Texts, placement: Placement, kind: Kind) -> Result<Self> {
        let start = Instant::now();
        let generation = folder.generation()?;
        let model = Llama::load(folder, &LoadOptions { placement, kind, progress: loading_bar() })?;
        Ok(Self { name: folder.name(), model, texts, generation, load_s: start.elapsed().as_secs_f64() })
    }

    /// Prefills a prompt's context once for all pipelines.
    ///
    /// # Errors
    /// The model itself fails; a press that fails is an error in its place of the list.
    pub fn compress(&self, prompt: &Prompt, pipelines: &[&Pipeline], seed: u64) -> Result<Vec<Result<Compressed>>> {
        let encode = |text: &str| self.texts.tokenizer.encode(text);
        let context = ContextTokens {
            tokens: &prompt.context,
            question_tokens: prompt.question_tokens,
            prompt: PromptParts { prefix_tokens: prompt.prefix_tokens, suffix: &prompt.suffix, encode: &encode },
            seed,
        };
        compress(&self.model, context, pipelines)
    }

    /// Bytes of the cache of `tokens` tokens, nothing compressed.
    pub fn uncompressed_bytes(&self, tokens: usize) -> u64 {
        let elements = self.model.config().kv_elements_per_token() * tokens as u128;
        u64::try_from(elements * self.model.kind().elt_size_in_bytes() as u128).unwrap_or(u64::MAX)
    }
}

/// Opens a model by name, with the default model's way in as a hint when nothing is there.
///
/// # Errors
/// There is no such model.
pub fn open_model(name: &str) -> Result<ModelFolder> {
    ModelFolder::open(name).map_err(|error| match error {
        Error::Input(text) if name == DEFAULT_MODEL => {
            Error::Input(format!("{text}; `make setup` brings the default model"))
        }
        other => other,
    })
}

/// Lets the presses of all sessions read what they need to know of the model.
///
/// # Errors
/// Side data of a press is missing, damaged or another model's.
pub fn prepare(sessions: &[SessionPlan], model: &ModelFacts) -> Result<()> {
    sessions.iter().try_for_each(|session| {
        let blame = |error: Error| Error::Input(format!("press `{}`: {error}", session.label));
        session.pipeline.prepare(model).map_err(blame)
    })
}

/// The model that is used where none is named.
pub const DEFAULT_MODEL: &str = "smollm2-135m-instruct";

fn loading_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // The template is a constant; a mistake in it would only lose the bar's looks.
    if let Ok(style) = ProgressStyle::with_template("loading {wide_bar} {bytes}/{total_bytes}") {
        bar.set_style(style);
    }
    bar
}
