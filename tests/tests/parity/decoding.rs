//! Presses of the decoding phase: what they leave after each pass.

use pressroom::cache::LayerCache;
use pressroom::model::{Llama, Step};
use pressroom::press::{Selection, StepHook, StepView};

use crate::compare;
use crate::presses::Case;
use crate::run::Outcome;

/// Follows the positions that a press's decisions leave.
struct Follower {
    hook: Option<Box<dyn StepHook + Send>>,
    /// `[layer][kv head][kept]`
    kept: Vec<Vec<Vec<i64>>>,
}

impl StepHook for Follower {
    fn on_layer(&mut self, step: &StepView<'_>) -> pressroom::Result<Option<Selection>> {
        let new = step.position..step.position + step.tokens();
        for head in &mut self.kept[step.layer] {
            head.extend(new.clone());
        }
        let Some(hook) = &mut self.hook else { return Ok(None) };
        let selection = hook.on_layer(step)?;
        if let Some(selection) = &selection {
            let entries = self.kept[step.layer][0].len() as i64;
            let lists = selection.to_lists(self.kept[step.layer].len(), entries)?;
            for (head, list) in self.kept[step.layer].iter_mut().zip(lists) {
                *head = list.iter().map(|index| head[*index as usize]).collect();
            }
        }
        Ok(selection)
    }
}

/// Feeds a case's question and answer, and compares after every pass for which the reference says what is left;
/// `content` compares what the cache holds in the end.
pub fn follow(model: &Llama, outcome: &Outcome, case: &Case, place: &str, content: &dyn Fn(&str, usize, &LayerCache)) {
    let compressed = &outcome.compressed;
    let mut follower = Follower { hook: compressed.start(), kept: compressed.decisions.clone() };
    let mut cache = compressed.cache.fork().unwrap();
    let feeds = std::iter::once(case.question_ids.clone()).chain(case.decode_ids.iter().map(|id| vec![*id]));
    for (index, tokens) in feeds.enumerate() {
        let before = follower.kept.clone();
        let step = Step { tokens: &tokens, cache: &mut cache, hook: Some(&mut follower) };
        let _hidden = model.forward(&mut [step]).unwrap();
        let pass = index + 1;
        let Some(after) = case.after.iter().find(|after| after.pass == pass) else {
            for (before, after) in before.iter().flatten().zip(follower.kept.iter().flatten()) {
                assert_eq!(before.len() + tokens.len(), after.len(), "{place}: pass {pass} evicts nothing");
            }
            continue;
        };
        for (layer, ours) in follower.kept.iter().enumerate() {
            let either = after.either.as_ref().map(|either| &either[layer]);
            compare::kept(&format!("{place} pass {pass} layer {layer}"), ours, &after.kept[layer], either);
        }
    }
    for (layer, held) in cache.layers().iter().enumerate() {
        let lengths: Vec<i64> = follower.kept[layer].iter().map(|kept| kept.len() as i64).collect();
        assert_eq!(held.lengths(), lengths, "{place} layer {layer}: the cache holds what was decided");
        content(&format!("{place} layer {layer}"), layer, held);
    }
}
