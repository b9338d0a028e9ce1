//! Scores and kept positions against kvpress's, on tiny random Llamas.

use std::collections::BTreeMap;

use pressroom::hooks::AttentionHook;
use pressroom::press::{Budget, Built, Needs, Params, Registry, Value};
use pressroom::view::LayerView;
use safetensors::SafeTensors;
use serde::Deserialize;
use tch::Tensor;

use crate::support;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    shape: String,
    press: String,
    params: serde_json::Map<String, serde_json::Value>,
    ratio: f64,
    input_ids: Vec<i64>,
    kept: Vec<Vec<Vec<i64>>>,
    scores: String,
}

/// Collects what a press decides and what its scorer scores, per layer.
struct Recorder {
    built: Built,
    scorer: std::sync::Arc<dyn pressroom::press::Scorer>,
    budget: Budget,
    scores: Vec<Tensor>,
    kept: Vec<Vec<Vec<i64>>>,
}

impl AttentionHook for Recorder {
    fn needs(&self, _layer: usize) -> Option<Needs> {
        Some(self.scorer.needs())
    }

    fn on_layer(&mut self, view: &LayerView<'_>) -> pressroom::Result<()> {
        self.scores.push(view.scores(self.scorer.as_ref(), self.budget)?.squeeze_dim(0));
        let selection = self.built.clone().into_press()?.select(view, self.budget)?;
        selection.check(1, view.geometry().kv_heads, view.tokens())?;
        self.kept.push(selection.to_lists(view.geometry().kv_heads as usize, view.tokens())?);
        Ok(())
    }
}

pub fn params(table: &serde_json::Map<String, serde_json::Value>) -> Params {
    let value = |value: &serde_json::Value| match value {
        serde_json::Value::Bool(flag) => Value::Flag(*flag),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or(Value::Number(number.as_f64().unwrap()), Value::Integer)
        }
        other => panic!("{other} is no parameter"),
    };
    table.iter().filter(|(name, _)| *name != "press").map(|(name, given)| (name.clone(), value(given))).collect()
}

/// The press called `name`, around the scorer that `inner` describes.
pub fn build(registry: &Registry, name: &str, given: &Params, inner: Option<&serde_json::Value>) -> Built {
    let inner = inner.map(|inner| {
        let mut table = inner.as_object().unwrap().clone();
        let name = table.remove("name").unwrap();
        build(registry, name.as_str().unwrap(), &params(&table), None)
    });
    registry.find(name).unwrap().build(given, inner.into_iter().collect()).unwrap()
}

fn recorder(registry: &Registry, case: &Case) -> Recorder {
    let inner = case.params.get("press");
    let built = build(registry, &case.press, &params(&case.params), inner);
    let scored = match inner {
        Some(inner) => {
            let mut table = inner.as_object().unwrap().clone();
            let name = table.remove("name").unwrap();
            build(registry, name.as_str().unwrap(), &params(&table), None)
        }
        None => built.clone(),
    };
    let Built::Scorer(scorer) = scored else { panic!("{} scores nothing", case.id) };
    Recorder { built, scorer, budget: Budget::from_ratio(case.ratio).unwrap(), scores: vec![], kept: vec![] }
}

#[test]
fn scores_and_kept_positions_are_the_references() {
    let golden: Golden = support::json("scores.json");
    let bytes = std::fs::read(support::golden("scores.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let registry = pressroom_presses::registry().unwrap();
    let models: BTreeMap<&str, _> = ["mha", "gqa", "mqa"].map(|shape| (shape, support::tiny(shape))).into();
    let mut cases_of: BTreeMap<&str, usize> = registry.names().map(|name| (name, 0)).collect();
    for case in &golden.cases {
        let mut recorder = recorder(&registry, case);
        let outcome = models[case.shape.as_str()].prefill(&case.input_ids, 0, &mut [&mut recorder]).unwrap().remove(0);
        outcome.unwrap_or_else(|error| panic!("{}: {error}", case.id));
        let reference = support::tensor(&expected, &case.scores);
        for (layer, (scores, kept)) in recorder.scores.iter().zip(&recorder.kept).enumerate() {
            let reference = reference.get(layer as i64);
            // The reference's score of streaming_llm is a mask of what a ratio keeps, not a ranking.
            if case.press != "streaming_llm" {
                compare_scores(&case.id, layer, scores, &reference);
            }
            compare_kept(case, layer, kept, &reference);
        }
        *cases_of.get_mut(case.press.as_str()).unwrap() += 1;
    }
    for (press, cases) in cases_of {
        assert!(cases > 0, "no golden case for press {press}");
    }
}

/// Scores agree to 1e-4 relative; where ours is infinite (always kept) the reference's is its maximum.
fn compare_scores(id: &str, layer: usize, ours: &Tensor, reference: &Tensor) {
    assert_eq!(ours.size(), reference.size(), "{id}");
    let ours = Vec::<f32>::try_from(ours.flatten(0, -1)).unwrap();
    let reference = Vec::<f32>::try_from(reference.flatten(0, -1)).unwrap();
    let highest = reference.iter().copied().fold(f32::MIN, f32::max);
    for (index, (&mine, &theirs)) in ours.iter().zip(&reference).enumerate() {
        if mine.is_infinite() {
            assert_eq!(theirs, highest, "{id} layer {layer} entry {index}");
        } else {
            let off = (mine - theirs).abs();
            assert!(off <= 1e-4 * theirs.abs(), "{id} layer {layer} entry {index}: {mine} where {theirs} is due");
        }
    }
}

/// Kept positions are equal; one may differ only where its score lies within 1e-6 relative of the cut.
fn compare_kept(case: &Case, layer: usize, ours: &[Vec<i64>], reference_scores: &Tensor) {
    let theirs = &case.kept[layer];
    let total = |kept: &[Vec<i64>]| kept.iter().map(Vec::len).sum::<usize>();
    assert_eq!(total(ours), total(theirs), "{} layer {layer}", case.id);
    let score = |head: usize, index: i64| reference_scores.double_value(&[head as i64, index]);
    for (head, (mine, theirs)) in ours.iter().zip(theirs).enumerate() {
        if mine == theirs {
            continue;
        }
        let kept = theirs.iter().map(|&index| score(head, index));
        let cut = kept.fold(f64::INFINITY, f64::min);
        for index in mine.iter().filter(|index| !theirs.contains(index)) {
            let off = (score(head, *index) - cut).abs();
            assert!(off <= 1e-6 * cut.abs(), "{} layer {layer} head {head}: kept {mine:?}, due is {theirs:?}", case.id);
        }
    }
}
