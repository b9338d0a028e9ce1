//! One prefill of a context for any number of pipelines.

use std::collections::BTreeMap;

use tch::Tensor;

use super::session::{Compressed, Session};
use crate::cache::{KvCache, LayerCache};
use crate::error::{Error, Result};
use crate::hooks::{self, AttentionHook};
use crate::model::Llama;
use crate::press::{Context, ContextPress, ContextStage, Needs, Pipeline, PromptParts, Selection};
use crate::view::{LayerView, union_of};

/// A context to compress.
#[derive(Clone, Copy)]
pub struct ContextTokens<'a> {
    /// Its token ids.
    pub tokens: &'a [i64],
    /// Tokens of a visible question at its end; 0 where the question is hidden.
    pub question_tokens: usize,
    /// How it stands in its prompt.
    pub prompt: PromptParts<'a>,
    /// What random presses derive their seeds from.
    pub seed: u64,
}

/// Prefills a context once for all pipelines. Presses that decide over all layers at once share its full cache, and
/// their scores where only ratios differ; where they have nothing to remove, they do not run.
///
/// # Errors
/// The model itself fails; a press that fails is an error in its place of the list.
pub fn compress(model: &Llama, context: ContextTokens<'_>, pipelines: &[&Pipeline]) -> Result<Vec<Result<Compressed>>> {
    let tokens = context.tokens.len() as i64;
    let stages: Vec<Option<&ContextStage>> = pipelines
        .iter()
        .map(|pipeline| pipeline.context().filter(|stage| !stage.budgets.iter().all(|budget| budget.keeps_all(tokens))))
        .collect();
    let mut observer = Observer::new(&stages);
    let mut sessions: Vec<Session> = Vec::new();
    for (pipeline, _) in pipelines.iter().zip(&stages).filter(|(_, stage)| stage.is_none()) {
        sessions.push(Session::new((*pipeline).clone()));
    }
    let mut subscribers: Vec<&mut dyn AttentionHook> =
        sessions.iter_mut().map(|s| s as &mut dyn AttentionHook).collect();
    subscribers.push(&mut observer);
    let mut outcomes =
        model.prefill_visible(context.tokens, context.question_tokens, context.seed, &mut subscribers)?;
    let observed = outcomes.pop().unwrap_or(Ok(()));
    let layers = model.geometry().layers;
    let mut decided = sessions.into_iter().zip(outcomes).map(|(session, outcome)| {
        outcome?;
        session.finish(layers)
    });
    let mut scored = observer.scored(model, context, observed);
    let due = || Error::input("a session was left without an outcome");
    Ok(pipelines
        .iter()
        .zip(stages)
        .map(|(pipeline, stage)| match stage {
            None => decided.next().ok_or_else(due)?,
            Some(stage) => {
                let (full, scores) = match scored.get_mut(&stage.press.identity()) {
                    Some(Ok(scored)) => scored,
                    Some(Err(problem)) => return Err(Error::input(problem.clone())),
                    None => return Err(due()),
                };
                let selections = select(stage, scores)?;
                Compressed::from_selections(full, &selections, pipeline, context.seed)
            }
        })
        .collect())
}

fn select(stage: &ContextStage, scores: &[Tensor]) -> Result<Vec<Selection>> {
    let selections = hooks::guard(0, &[], || stage.press.select(scores, &stage.budgets))?;
    match selections.len() == scores.len() {
        true => Ok(selections),
        false => Err(Error::input(format!(
            "{} decided on {} of {} layers",
            stage.press.identity(),
            selections.len(),
            scores.len()
        ))),
    }
}

/// Checks that there are usable scores for every entry of every layer.
fn check(scores: &[Tensor], cache: &KvCache) -> Result<()> {
    if scores.len() != cache.layers().len() {
        return Err(Error::input(format!("scores {} of {} layers", scores.len(), cache.layers().len())));
    }
    for (index, (scores, layer)) in scores.iter().zip(cache.layers()).enumerate() {
        let lengths = layer.lengths();
        let due = [lengths.len() as i64, lengths.first().copied().unwrap_or(0)];
        if scores.size() != due {
            return Err(Error::input(format!("layer {index}: gave scores {:?}, {due:?} was due", scores.size())));
        }
        let unusable = scores.f_isnan()?.f_logical_or(&scores.f_isneginf()?)?.f_any()?.f_int64_value(&[])?;
        if unusable != 0 {
            return Err(Error::input(format!("layer {index}: gave scores that are NaN or minus infinity")));
        }
    }
    Ok(())
}

/// What a press remembers of each layer.
type Observed = Vec<Result<Option<Tensor>>>;

/// Holds the full cache of a context, and what presses remember of its layers.
struct Observer<'p> {
    presses: BTreeMap<String, (&'p dyn ContextPress, Observed)>,
    layers: Vec<LayerCache>,
    end: i64,
}

impl<'p> Observer<'p> {
    fn new(stages: &[Option<&'p ContextStage>]) -> Self {
        let presses = stages.iter().flatten();
        let presses = presses.map(|stage| (stage.press.identity(), (stage.press.as_ref(), Vec::new()))).collect();
        Self { presses, layers: Vec::new(), end: 0 }
    }

    /// The full cache (with what a press appended to it) and the scores of every press, or what went wrong.
    fn scored(
        self,
        model: &Llama,
        context: ContextTokens<'_>,
        outcome: Result<()>,
    ) -> BTreeMap<String, Result<(KvCache, Vec<Tensor>), String>> {
        let full = KvCache::from_layers(self.layers, self.end);
        let score = |press: &dyn ContextPress, observed: Observed| {
            let observed = observed.into_iter().collect::<Result<Vec<_>>>()?;
            let mut cache = full.fork()?;
            let mut context = Context {
                model,
                tokens: context.tokens,
                prompt: context.prompt,
                cache: &mut cache,
                observed: &observed,
            };
            let scores = hooks::guard(0, &[], || press.score(&mut context))?;
            check(&scores, &cache)?;
            // Layers that are on several devices compete with each other on the last.
            let together = scores.iter().map(|layer| layer.f_to_device(model.device()));
            Ok((cache, together.collect::<Result<_, _>>()?))
        };
        let failed = outcome.err().map(|error: Error| error.to_string());
        let scores = self.presses.into_iter().map(|(identity, (press, observed))| {
            let scored = match &failed {
                Some(problem) => Err(problem.clone()),
                None => score(press, observed).map_err(|error: Error| format!("press `{identity}`: {error}")),
            };
            (identity, scored)
        });
        scores.collect()
    }
}

impl AttentionHook for Observer<'_> {
    fn needs(&self, _layer: usize) -> Option<Needs> {
        let presses = self.presses.values().map(|(press, _)| press.needs());
        (!self.presses.is_empty()).then(|| union_of(presses))
    }

    fn on_layer(&mut self, view: &LayerView<'_>) -> Result<()> {
        for (press, observed) in self.presses.values_mut() {
            observed.push(hooks::guard(view.layer(), &view.keys().size(), || press.observe(view)));
        }
        self.layers.append(&mut view.compress(&Selection::all())?);
        self.end = view.context_end();
        Ok(())
    }
}
