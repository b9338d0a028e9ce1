//! What presses score and keep on tiny random Llamas, against kvpress: `golden/presses/*.json`, a file a press.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pressroom::hooks::AttentionHook;
use pressroom::model::Llama;
use pressroom::press::{Budget, Built, Needs, Press, Registry, Scorer};
use pressroom::view::LayerView;
use safetensors::SafeTensors;
use serde::Deserialize;
use tch::Tensor;

use crate::build::{Table, build};
use crate::{compare, support};

#[derive(Deserialize)]
struct Golden {
    press: String,
    /// Parsed one by one once the press is known: a case may need what the press brings along.
    cases: Vec<serde_json::Value>,
}

/// A case; what it states beyond these fields has no comparison yet, and is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    shape: String,
    params: Table,
    ratio: f64,
    input_ids: Vec<i64>,
    kept: Vec<Vec<Vec<i64>>>,
    either: Option<Vec<Vec<Vec<i64>>>>,
    scores: Option<String>,
}

/// Collects what a press decides, and how it ranks if it is a scorer, per layer.
struct Recorder {
    press: Arc<dyn Press>,
    scorer: Option<Arc<dyn Scorer>>,
    budget: Budget,
    scores: Vec<Tensor>,
    kept: Vec<Vec<Vec<i64>>>,
}

impl Recorder {
    fn new(built: Built, ratio: f64) -> Self {
        let scorer = match &built {
            Built::Scorer(scorer) => Some(scorer.clone()),
            Built::Press(_) => None,
        };
        let budget = Budget::from_ratio(ratio).unwrap();
        Self { press: built.into_press(), scorer, budget, scores: vec![], kept: vec![] }
    }
}

impl AttentionHook for Recorder {
    fn needs(&self, _layer: usize) -> Option<Needs> {
        Some(self.press.needs())
    }

    fn on_layer(&mut self, view: &LayerView<'_>) -> pressroom::Result<()> {
        if let Some(scorer) = &self.scorer {
            self.scores.push(view.scores(scorer.as_ref())?.squeeze_dim(0));
        }
        let selection = self.press.select(view, self.budget)?;
        selection.check(1, view.geometry().kv_heads, view.tokens())?;
        self.kept.push(selection.to_lists(view.geometry().kv_heads as usize, view.tokens())?);
        Ok(())
    }
}

#[test]
fn scores_and_kept_positions_are_the_references() {
    let registry = pressroom_presses::registry().unwrap();
    let models: BTreeMap<&str, Llama> = ["mha", "gqa", "mqa"].map(|shape| (shape, support::tiny(shape))).into();
    let mut missing: BTreeSet<&str> = registry.names().collect();
    for name in support::json_files("presses") {
        let golden: Golden = support::json(&format!("presses/{name}.json"));
        assert_eq!(golden.press, name);
        assert!(!golden.cases.is_empty(), "{name} has no cases");
        if !missing.remove(name.as_str()) {
            println!("{name} is not built in: its {} golden cases were not run", golden.cases.len());
            continue;
        }
        let bytes = std::fs::read(support::golden(&format!("presses/{name}.safetensors"))).ok();
        let tensors = bytes.as_ref().map(|bytes| SafeTensors::deserialize(bytes).unwrap());
        for case in golden.cases {
            let case: Case = serde_json::from_value(case).unwrap_or_else(|error| panic!("{name}: {error}"));
            check(&registry, &models[case.shape.as_str()], &name, &case, tensors.as_ref());
        }
    }
    assert!(missing.is_empty(), "no golden/presses/PRESS.json for {missing:?}");
}

fn check(registry: &Registry, model: &Llama, press: &str, case: &Case, tensors: Option<&SafeTensors<'_>>) {
    let mut recorder = Recorder::new(build(registry, press, &case.params), case.ratio);
    let outcome = model.prefill(&case.input_ids, 0, &mut [&mut recorder]).unwrap().remove(0);
    outcome.unwrap_or_else(|error| panic!("{press} {}: {error}", case.id));
    assert_eq!(recorder.kept.len(), case.kept.len());
    let scores = case.scores.as_ref().map(|name| support::tensor(tensors.unwrap(), name));
    for (layer, kept) in recorder.kept.iter().enumerate() {
        let place = format!("{press} {} layer {layer}", case.id);
        if let Some(due) = &scores {
            compare::scores(&place, &recorder.scores[layer], &due.get(layer as i64));
        }
        compare::kept(&place, kept, &case.kept[layer], case.either.as_ref().map(|either| &either[layer]));
    }
}
