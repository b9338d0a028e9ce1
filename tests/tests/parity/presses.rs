//! What presses score and keep on tiny random Llamas, against kvpress: `golden/presses/*.json`, a file a press.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pressroom::model::Llama;
use pressroom::plan::sessions;
use pressroom::press::{Budget, Built, Pipeline, Registry, Scorer};
use pressroom::spec::Spec;
use pressroom_presses::Finch;
use safetensors::SafeTensors;
use serde::Deserialize;

use crate::build::{Table, build_with, params};
use crate::decoding::follow;
use crate::run::{Outcome, run, run_pipeline};
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
pub struct Case {
    id: String,
    shape: String,
    params: Table,
    ratio: Option<f64>,
    /// What the model reads; with a delimiter before the question in the place that `delimiter_id` marks.
    input_ids: Vec<i64>,
    pub delimiter_id: Option<i64>,
    /// Tokens of the question behind the delimiter.
    window_size: Option<usize>,
    /// Seed of torch's generator before each layer's scores.
    seed: Option<u64>,
    /// How the reference computed attention; ours has one way.
    #[serde(rename = "attention")]
    _attention: Option<String>,
    pub replay: Option<Replay>,
    kept: Vec<Vec<Vec<i64>>>,
    either: Option<Vec<Vec<Vec<i64>>>>,
    channels: Option<Vec<Vec<Vec<i64>>>>,
    scores: Option<String>,
    keys: Option<String>,
    values: Option<String>,
    #[serde(default)]
    pub question_ids: Vec<i64>,
    #[serde(default)]
    pub decode_ids: Vec<i64>,
    #[serde(default)]
    pub after: Vec<After>,
}

/// The prompt around a context that is replayed.
#[derive(Deserialize)]
pub struct Replay {
    pub prefix_tokens: usize,
    pub suffix_ids: Vec<i64>,
    pub first_prompt_ids: Vec<i64>,
    pub next_prompt_ids: Vec<i64>,
}

/// What a pass after the context left.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    pub pass: usize,
    pub kept: Vec<Vec<Vec<i64>>>,
    pub either: Option<Vec<Vec<Vec<i64>>>>,
}

impl Case {
    /// The context as our model reads it: without the delimiter.
    pub fn context(&self) -> Vec<i64> {
        self.input_ids.iter().copied().filter(|id| Some(*id) != self.delimiter_id).collect()
    }

    /// Tokens of a visible question at the context's end.
    pub fn question_tokens(&self) -> usize {
        self.window_size.unwrap_or(0)
    }

    fn budget(&self) -> Budget {
        self.ratio.map_or(Budget::ALL, |ratio| Budget::from_ratio(ratio).unwrap())
    }

    fn build(&self, registry: &Registry, press: &str) -> Built {
        let folder = support::golden("presses").join(press).join(&self.shape);
        build_with(registry, press, &self.params, self.seed, Some(&folder))
    }

    /// What the TOML of a press that is no entry of the registry stands for.
    fn spelt(&self, registry: &Registry, press: &str, layers: usize) -> Pipeline {
        let params: Vec<String> = self.params.iter().map(|(key, value)| format!("{key} = {}\n", toml(value))).collect();
        let text = format!("[[press]]\nname = \"{press}\"\n{}", params.concat());
        let presses = Spec::parse_pipeline(&text, "golden.toml", registry).unwrap_or_else(|error| panic!("{error}"));
        sessions(&presses, &[], layers).unwrap_or_else(|error| panic!("{error}")).remove(0).pipeline
    }

    /// What ranks: the press itself, or a scorer inside it that no other press can take.
    fn scorer(&self, press: &str, built: &Built) -> Option<Arc<dyn Scorer>> {
        match built {
            Built::Scorer(scorer) => Some(scorer.clone()),
            _ if press == "finch" => Some(Arc::new(Finch::from_params(&params(&self.params)).unwrap())),
            Built::Method(_) => None,
        }
    }
}

/// Presses of the reference that TOML reads as something that has a spelling of its own.
const SPELLINGS: [&str; 2] = ["composed", "per_layer_compression"];

/// A value of JSON in TOML, on one line.
fn toml(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Object(table) => {
            let entries: Vec<String> = table.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        serde_json::Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[test]
fn scores_and_kept_positions_are_the_references() {
    let registry = pressroom_presses::registry().unwrap();
    let models: BTreeMap<&str, Llama> = ["mha", "gqa", "mqa"].map(|shape| (shape, support::tiny(shape))).into();
    let mut missing: BTreeSet<&str> = registry.names().collect();
    let only = std::env::var("PRESSROOM_PRESS").ok();
    for name in support::json_files("presses") {
        let golden: Golden = support::json(&format!("presses/{name}.json"));
        assert_eq!(golden.press, name);
        assert!(!golden.cases.is_empty(), "{name} has no cases");
        if !missing.remove(name.as_str()) && !SPELLINGS.contains(&name.as_str()) {
            println!("{name} is not built in: its {} golden cases were not run", golden.cases.len());
            continue;
        }
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let bytes = std::fs::read(support::golden(&format!("presses/{name}.safetensors"))).ok();
        let tensors = bytes.as_ref().map(|bytes| SafeTensors::deserialize(bytes).unwrap());
        for case in golden.cases {
            let case: Case = serde_json::from_value(case).unwrap_or_else(|error| panic!("{name}: {error}"));
            check(&registry, &models[case.shape.as_str()], &name, &case, tensors.as_ref());
        }
    }
    assert!(only.is_some() || missing.is_empty(), "no golden/presses/PRESS.json for {missing:?}");
}

fn check(registry: &Registry, model: &Llama, press: &str, case: &Case, tensors: Option<&SafeTensors<'_>>) {
    let place = format!("{press} {}", case.id);
    let outcome = if SPELLINGS.contains(&press) {
        let pipeline = case.spelt(registry, press, model.geometry().layers);
        Outcome { scores: Vec::new(), compressed: run_pipeline(model, &pipeline, case, &place) }
    } else {
        let built = case.build(registry, press);
        let scorer = case.scorer(press, &built);
        run(model, built, scorer, case.budget(), case, &place)
    };
    let Outcome { scores, compressed } = &outcome;
    assert_eq!(compressed.decisions.len(), case.kept.len());
    // Entries that a press appended lie behind the context.
    let context = case.context().len() as i64;
    let of_context = |kept: &Vec<i64>| kept.iter().copied().filter(|position| *position < context).collect();
    let decisions: Vec<Vec<Vec<i64>>> =
        compressed.decisions.iter().map(|layer| layer.iter().map(of_context).collect()).collect();
    compare::total(&format!("{press} {}", case.id), &decisions, &case.kept);
    let tensor = |name: &str| support::tensor(tensors.unwrap(), name);
    for (layer, kept) in decisions.iter().enumerate() {
        let place = format!("{press} {} layer {layer}", case.id);
        if let Some(name) = &case.scores {
            compare::scores(&place, &scores[layer].narrow(1, 0, context), &tensor(name).get(layer as i64));
        }
        compare::kept(&place, kept, &case.kept[layer], case.either.as_ref().map(|either| &either[layer]));
        if *kept != case.kept[layer] {
            continue;
        }
        let held = &compressed.cache.layers()[layer];
        for (head, kept) in kept.iter().enumerate() {
            let (keys, values) = held.head(head).unwrap();
            let appended = compressed.decisions[layer][head].len() - kept.len();
            assert_eq!(keys.size()[0] as usize, kept.len() + appended, "{place} head {head} holds what it decided");
            for (what, ours, due) in [("keys", keys, &case.keys), ("values", values, &case.values)] {
                if let Some(name) = due.as_ref().filter(|_| case.after.is_empty()) {
                    let due = tensor(&format!("{name}/{layer}")).get(head as i64);
                    let first = if appended > 0 { kept.len() as i64 } else { 0 };
                    let ours = ours.narrow(0, first, ours.size()[0] - first);
                    compare::content(&format!("{place} head {head} {what}"), &ours, &due);
                }
            }
            if let Some(channels) = &case.channels {
                compare::channels(&place, &held.head(head).unwrap().0, &channels[layer][head]);
            }
        }
    }
    if !case.question_ids.is_empty() {
        follow(model, &outcome, case, &format!("{press} {}", case.id), &|place, layer, held| {
            for (what, part, due) in [("keys", 0, &case.keys), ("values", 1, &case.values)] {
                let Some(name) = due else { continue };
                let due = tensor(&format!("{name}/{layer}"));
                for head in 0..due.size()[0] {
                    let (keys, values) = held.head(head as usize).unwrap();
                    let ours = if part == 0 { keys } else { values };
                    compare::content(&format!("{place} {what}"), &ours, &due.get(head));
                }
            }
        });
    }
}
