//! One press on one context, whatever its kind: its scores, and what it left.

use std::sync::Arc;

use pressroom::hooks::AttentionHook;
use pressroom::model::Llama;
use pressroom::pipeline::{Compressed, ContextTokens, Session, compress};
use pressroom::press::{Budget, Built, Context, ContextPress, Method, Needs, Pipeline, PromptParts, Scorer, Stage};
use pressroom::view::{Geometry, LayerView};
use tch::Tensor;

use crate::presses::Case;

/// What a press made of a context.
pub struct Outcome {
    /// By layer, `[kv_heads, tokens]`; nothing of a press that has no scores.
    pub scores: Vec<Tensor>,
    pub compressed: Compressed,
}

/// Runs a press as an experiment would, and once more for its scores.
pub fn run(
    model: &Llama,
    built: Built,
    scorer: Option<Arc<dyn Scorer>>,
    budget: Budget,
    case: &Case,
    place: &str,
) -> Outcome {
    let facts = pressroom::press::ModelFacts::new("tiny", model.geometry(), model.config().hidden_size);
    let method = built.into_method();
    method.prepare(&facts).unwrap_or_else(|error| panic!("{place}: {error}"));
    let layers = model.geometry().layers;
    let stage = Stage { method: method.clone(), budgets: vec![budget; layers] };
    let pipeline = Pipeline::new(vec![stage], layers).unwrap();
    let compressed = run_pipeline(model, &pipeline, case, place);
    let scores = in_context(case, |context| match (scorer, method) {
        (Some(scorer), _) => scores_of(model, scorer, budget, context),
        (None, Method::Context(press)) => context_scores(model, press.as_ref(), context),
        _ => Vec::new(),
    });
    Outcome { scores, compressed }
}

/// Runs a chain.
pub fn run_pipeline(model: &Llama, pipeline: &Pipeline, case: &Case, place: &str) -> Compressed {
    let compressed = in_context(case, |context| compress(model, context, &[pipeline]).unwrap().remove(0));
    compressed.unwrap_or_else(|error| panic!("{place}: {error}"))
}

/// A case's context as it stands in its prompt.
fn in_context<T>(case: &Case, look: impl FnOnce(ContextTokens<'_>) -> T) -> T {
    let tokens = case.context();
    let encode = |text: &str| -> pressroom::Result<Vec<i64>> {
        let replay = case.replay.as_ref().unwrap();
        let next = text.contains("starting with");
        Ok(if next { replay.next_prompt_ids.clone() } else { replay.first_prompt_ids.clone() })
    };
    let prompt = PromptParts {
        prefix_tokens: case.replay.as_ref().map_or(0, |replay| replay.prefix_tokens),
        suffix: case.replay.as_ref().map_or(&[], |replay| &replay.suffix_ids),
        encode: &encode,
    };
    look(ContextTokens { tokens: &tokens, question_tokens: case.question_tokens(), prompt, seed: 0 })
}

struct ScoreRecorder(Arc<dyn Scorer>, Budget, Vec<Tensor>);

impl AttentionHook for ScoreRecorder {
    fn needs(&self, _layer: usize) -> Option<Needs> {
        Some(self.0.needs())
    }

    fn on_layer(&mut self, view: &LayerView<'_>) -> pressroom::Result<()> {
        self.2.push(view.scores(self.0.as_ref(), self.1)?.squeeze_dim(0));
        Ok(())
    }
}

fn scores_of(model: &Llama, scorer: Arc<dyn Scorer>, budget: Budget, context: ContextTokens<'_>) -> Vec<Tensor> {
    let mut recorder = ScoreRecorder(scorer, budget, Vec::new());
    let hooks: &mut [&mut dyn AttentionHook] = &mut [&mut recorder];
    model.prefill_visible(context.tokens, context.question_tokens, context.seed, hooks).unwrap().remove(0).unwrap();
    recorder.2
}

struct Observer<'a>(&'a dyn ContextPress, Vec<Option<Tensor>>);

impl AttentionHook for Observer<'_> {
    fn needs(&self, _layer: usize) -> Option<Needs> {
        Some(self.0.needs())
    }

    fn on_layer(&mut self, view: &LayerView<'_>) -> pressroom::Result<()> {
        self.1.push(self.0.observe(view)?);
        Ok(())
    }
}

fn context_scores(model: &Llama, press: &dyn ContextPress, context: ContextTokens<'_>) -> Vec<Tensor> {
    let (mut observer, mut full) = (Observer(press, Vec::new()), Session::new(Pipeline::default()));
    let hooks: &mut [&mut dyn AttentionHook] = &mut [&mut observer, &mut full];
    model.prefill(context.tokens, context.seed, hooks).unwrap().into_iter().for_each(|outcome| outcome.unwrap());
    let Geometry { layers, .. } = model.geometry();
    let mut cache = full.finish(layers).unwrap().cache;
    let (tokens, prompt, observed) = (context.tokens, context.prompt, &observer.1[..]);
    press.score(&mut Context { model, tokens, prompt, cache: &mut cache, observed }).unwrap()
}
