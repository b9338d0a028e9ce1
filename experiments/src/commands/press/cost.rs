//! `pressroom press cost`: seconds that presses take of a model's first layer.

use std::io::BufRead;
use std::time::Instant;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use pressroom::cache::{KvCache, LayerCache};
use pressroom::hooks::AttentionHook;
use pressroom::model::{ContextLayer, Llama, LoadOptions, ModelFolder, Step};
use pressroom::pipeline::{Compressed, Session, place_layers};
use pressroom::plan::sessions;
use pressroom::press::{
    Context as PressContext, ContextStage, ModelFacts, Needs, Pipeline, PromptParts, Registry, Selection, Span,
    StepHook, StepView,
};
use pressroom::spec::Spec;
use pressroom::view::LayerView;
use tch::Tensor;

use super::print;
use crate::cli::PressCostArgs;
use crate::commands::bench::made_up_ids;

/// Answers every pipeline of standard input, a line of TOML each, with a line of JSON: the seconds that each round took.
///
/// # Errors
/// The model cannot be loaded; a line is no pipeline, or its press fails.
pub fn cost(registry: &Registry, args: &PressCostArgs) -> Result<()> {
    args.hardware.set_threads();
    let folder = ModelFolder::open(&args.model)?;
    let (placement, kind) = place_layers(&args.hardware.device, folder.config(), args.dtype)?;
    let options = LoadOptions { placement, kind, progress: ProgressBar::hidden() };
    let model = Llama::load(&folder, &options)?;
    let ids = made_up_ids(args.tokens, model.config().vocab_size);
    let everything = Needs { hidden_states: true, queries: Span::All, attention_sums: true, ..Needs::KEYS_AND_VALUES };
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
    /// a press that decides over whole contexts what it does beside the prefill; of one of the decoding phase what it
    /// does after one new token. But for those of whole contexts it runs twice, and the second time counts: the first
    /// wakes the threads.
    fn seconds(&self, pipeline: &Pipeline) -> Result<f64> {
        if let Some(stage) = pipeline.context() {
            return self.context_seconds(stage);
        }
        let _guard = tch::no_grad_guard();
        self.compress(pipeline)?;
        let start = Instant::now();
        let compressed = self.compress(pipeline)?;
        let seconds = start.elapsed().as_secs_f64();
        if pipeline.decoding().is_some() && compressed.achieved_ratio(self.ids.len()) == 0.0 {
            self.step_seconds(&compressed)?;
            return self.step_seconds(&compressed);
        }
        Ok(seconds)
    }

    fn view(&self, pipeline: &Pipeline) -> Result<LayerView<'_>> {
        Ok(self.layer.view(pipeline.needs())?.with_question(self.question_tokens))
    }

    /// The first layer's cache as a pipeline leaves it.
    fn compress(&self, pipeline: &Pipeline) -> Result<Compressed> {
        let mut session = Session::new(pipeline.clone());
        session.on_layer(&self.view(pipeline)?)?;
        Ok(session.finish(1)?)
    }

    fn context_seconds(&self, stage: &ContextStage) -> Result<f64> {
        let mut prefill = Observed { stage, layers: vec![], observed: vec![], end: 0, seconds: 0.0 };
        self.model.prefill(self.ids, 0, &mut [&mut prefill])?.remove(0)?;
        let Observed { layers, observed, end, seconds, .. } = prefill;
        let mut cache = KvCache::from_layers(layers, end);
        // A request and what follows it, as a chat template would have them.
        let encode = |_: &str| Ok(vec![2; 8]);
        let prompt = PromptParts { prefix_tokens: 0, suffix: &[3; 4], encode: &encode };
        let mut context =
            PressContext { model: self.model, tokens: self.ids, prompt, cache: &mut cache, observed: &observed };
        let start = Instant::now();
        let scores = stage.press.score(&mut context)?;
        let selections = stage.press.select(&scores, &stage.budgets)?;
        for (layer, selection) in cache.layers().iter().zip(&selections) {
            layer.select(selection)?;
        }
        Ok(seconds + start.elapsed().as_secs_f64())
    }

    fn step_seconds(&self, compressed: &Compressed) -> Result<f64> {
        let mut cache = compressed.cache.fork()?;
        let mut hook = Timed { inner: compressed.start().context("nothing compresses while decoding")?, seconds: 0.0 };
        let _hidden = self.model.forward(&mut [Step { tokens: &[1], cache: &mut cache, hook: Some(&mut hook) }])?;
        Ok(hook.seconds)
    }
}

/// Collects the full cache of a context, and times what a press does meanwhile.
struct Observed<'a> {
    stage: &'a ContextStage,
    layers: Vec<LayerCache>,
    observed: Vec<Option<Tensor>>,
    end: i64,
    seconds: f64,
}

impl AttentionHook for Observed<'_> {
    fn needs(&self, _layer: usize) -> Option<Needs> {
        Some(self.stage.press.needs())
    }

    fn on_layer(&mut self, view: &LayerView<'_>) -> pressroom::Result<()> {
        let start = Instant::now();
        self.observed.push(self.stage.press.observe(view)?);
        self.seconds += start.elapsed().as_secs_f64();
        self.layers.append(&mut view.compress(&Selection::all())?);
        self.end = view.context_end();
        Ok(())
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
