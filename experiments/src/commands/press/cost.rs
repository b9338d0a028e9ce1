//! `pressroom press cost`: seconds that presses take of a model's first layer.

use std::io::BufRead;
use std::time::Instant;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use pressroom::hooks::AttentionHook;
use pressroom::model::{ContextLayer, Llama, LoadOptions, ModelFolder, Step};
use pressroom::pipeline::{Compressed, ContextTokens, Session, compress, place_layers};
use pressroom::plan::sessions;
use pressroom::press::{ModelFacts, Needs, Pipeline, PromptParts, Registry, Selection, Span, StepHook, StepView};
use pressroom::spec::Spec;

use super::print;
use crate::cli::PressCostArgs;
use crate::commands::bench::made_up_ids;

/// Answers every pipeline of standard input, a line of TOML each, with a line of JSON: the seconds of each round.
///
/// # Errors
/// The model cannot be loaded; a line is no pipeline, or its press fails.
pub fn cost(registry: &Registry, args: &PressCostArgs) -> Result<()> {
    if let Some(threads) = args.threads {
        tch::set_num_threads(threads);
    }
    let folder = ModelFolder::open(&args.model)?;
    let (placement, kind) = place_layers(&args.device, folder.config(), args.dtype)?;
    let options = LoadOptions { placement, kind, progress: ProgressBar::hidden() };
    let model = Llama::load(&folder, &options)?;
    let ids = made_up_ids(args.tokens, model.config().vocab_size);
    let everything = Needs { hidden_states: true, queries: Span::All, ..Needs::KEYS_AND_VALUES };
    let bench = Bench {
        layer: model.first_layer(&ids, everything)?,
        facts: folder.facts(),
        model: &model,
        ids: &ids,
        question_tokens: args.question_tokens,
    };
    for line in std::io::stdin().lock().lines() {
        let presses = Spec::parse_pipeline(&line?, "standard input", registry)?;
        let session = sessions(&presses, &[], bench.facts.geometry.layers)?.pop();
        let pipeline = session.context("a line without a press")?.pipeline;
        pipeline.prepare(&bench.facts)?;
        let rounds = (0..args.rounds).map(|_| bench.seconds(&pipeline));
        print(&(serde_json::to_string(&rounds.collect::<Result<Vec<_>>>()?)? + "\n"))?;
    }
    Ok(())
}

/// A context of which the first layer's projections are there.
struct Bench<'a> {
    model: &'a Llama,
    facts: ModelFacts,
    ids: &'a [i64],
    layer: ContextLayer<'a>,
    question_tokens: i64,
}

impl Bench<'_> {
    /// Seconds that a pipeline takes: of one layer from what the model has projected anyhow to the compressed cache; of
    /// a press that decides over whole contexts what compressing takes more than a prefill; of one of the decoding
    /// phase what it does after one new token.
    fn seconds(&self, pipeline: &Pipeline) -> Result<f64> {
        if pipeline.context().is_some() {
            return Ok(self.context_seconds(pipeline)? - self.context_seconds(&Pipeline::default())?);
        }
        let start = Instant::now();
        let compressed = self.compress(pipeline)?;
        let seconds = start.elapsed().as_secs_f64();
        if pipeline.decoding().is_none() || compressed.achieved_ratio(self.ids.len()) > 0.0 {
            return Ok(seconds);
        }
        self.step_seconds(&compressed)
    }

    /// The first layer's cache as a pipeline leaves it.
    fn compress(&self, pipeline: &Pipeline) -> Result<Compressed> {
        let _guard = tch::no_grad_guard();
        let mut session = Session::new(pipeline.clone());
        session.on_layer(&self.layer.view(pipeline.needs())?.with_question(self.question_tokens))?;
        Ok(session.finish(1)?)
    }

    fn context_seconds(&self, pipeline: &Pipeline) -> Result<f64> {
        // A request and what follows it, as a chat template would have them.
        let encode = |_: &str| Ok(vec![2; 8]);
        let prompt = PromptParts { prefix_tokens: 0, suffix: &[3; 4], encode: &encode };
        let context = ContextTokens { tokens: self.ids, question_tokens: 0, prompt, seed: 0 };
        let start = Instant::now();
        for compressed in compress(self.model, context, &[pipeline])? {
            compressed?;
        }
        Ok(start.elapsed().as_secs_f64())
    }

    fn step_seconds(&self, compressed: &Compressed) -> Result<f64> {
        let mut cache = compressed.cache.fork()?;
        let mut hook = Timed { inner: compressed.start().context("nothing compresses while decoding")?, seconds: 0.0 };
        let _hidden = self.model.forward(&mut [Step { tokens: &[1], cache: &mut cache, hook: Some(&mut hook) }])?;
        Ok(hook.seconds)
    }
}

/// Times a decision and the eviction that follows it.
struct Timed {
    inner: Box<dyn StepHook + Send>,
    seconds: f64,
}

impl StepHook for Timed {
    fn on_layer(&mut self, step: &StepView<'_>) -> pressroom::Result<Option<Selection>> {
        let start = Instant::now();
        let selection = self.inner.on_layer(step)?;
        if let Some(selection) = &selection {
            step.cache.select(selection)?;
        }
        self.seconds += start.elapsed().as_secs_f64();
        Ok(None)
    }
}
