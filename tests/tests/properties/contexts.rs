//! Every press that decides over a whole context, on a tiny model: promised sizes, nested kept sets, determinism, other
//! sessions undisturbed.

use std::path::Path;

use pressroom::model::Llama;
use pressroom::pipeline::{Compressed, ContextTokens, compress};
use pressroom::press::{Budget, Built, Kind, ModelFacts, Params, Pipeline, PromptParts, Registry, Stage, Value};
use proptest::prelude::*;

use crate::support::tiny;

const LAYERS: usize = 3;
const KV_HEADS: usize = 2;

/// Small chunks, so that short contexts have several, and the side data of the golden cases.
fn built(registry: &Registry, name: &str, more: &[(&str, Value)]) -> Built {
    let entry = registry.find(name).unwrap();
    let side_data = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/presses").join(name).join("gqa");
    let known = [
        ("chunk_size", Value::Integer(16)),
        ("n_sink", Value::Integer(2)),
        ("side_data", Value::Text(side_data.to_str().unwrap().into())),
    ];
    let params: Params = known
        .into_iter()
        .chain(more.iter().map(|(name, value)| (*name, value.clone())))
        .filter(|(param, _)| entry.info().param(param).is_some())
        .map(|(param, value)| (param.to_owned(), value))
        .collect();
    entry.build(&params, vec![]).unwrap()
}

/// Every press of whole contexts, with its variants.
pub fn all(registry: &Registry) -> Vec<(String, Built)> {
    let variants: [(&str, &[(&str, Value)]); 3] = [
        ("", &[]),
        ("layerwise", &[("layerwise", Value::Flag(true))]),
        ("unstructured", &[("structured", Value::Flag(false))]),
    ];
    let mut presses = Vec::new();
    for entry in registry.entries().filter(|entry| entry.info().kind == Kind::Context) {
        let name = &entry.info().name;
        for (variant, params) in variants {
            if params.iter().all(|(param, _)| entry.info().param(param).is_some()) {
                presses.push((format!("{name} {variant}"), built(registry, name, params)));
            }
        }
    }
    assert!(presses.len() > 6);
    presses
}

fn run(model: &Llama, tokens: &[i64], sessions: Vec<(Built, Vec<Budget>)>) -> Vec<Compressed> {
    let pipelines: Vec<Pipeline> = sessions.into_iter().map(|(built, budgets)| alone(model, built, budgets)).collect();
    compressed(model, tokens, &pipelines.iter().collect::<Vec<_>>())
}

/// A pipeline of one press, prepared.
pub fn alone(model: &Llama, built: Built, budgets: Vec<Budget>) -> Pipeline {
    let facts = ModelFacts::new("tiny", model.geometry(), model.config().hidden_size);
    let method = built.into_method();
    method.prepare(&facts).unwrap();
    Pipeline::new(vec![Stage { method, budgets }], LAYERS).unwrap()
}

pub fn compressed(model: &Llama, tokens: &[i64], pipelines: &[&Pipeline]) -> Vec<Compressed> {
    let encode = |text: &str| -> pressroom::Result<Vec<i64>> { Ok(vec![text.len() as i64 % 60, 3]) };
    let prompt = PromptParts { prefix_tokens: 3, suffix: &[61, 7], encode: &encode };
    let context = ContextTokens { tokens, question_tokens: 0, prompt, seed: 0 };
    compress(model, context, pipelines).unwrap().into_iter().map(|outcome| outcome.unwrap()).collect()
}

pub fn same(ratio: f64) -> Vec<Budget> {
    vec![Budget::from_ratio(ratio).unwrap(); LAYERS]
}

/// Kept positions of the context: a press may append entries behind it.
fn kept(compressed: &Compressed, tokens: usize) -> Vec<Vec<Vec<i64>>> {
    let of_head = |kept: &Vec<i64>| kept.iter().copied().filter(|position| *position < tokens as i64).collect();
    compressed.decisions.iter().map(|layer| layer.iter().map(of_head).collect()).collect()
}

fn tokens() -> impl Strategy<Value = Vec<i64>> {
    proptest::collection::vec(0i64..60, 12usize..50)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn sizes_are_as_promised_and_kept_sets_nest(context in tokens(), low in 0.05f64..0.8, high in 0.05f64..0.8) {
        let (low, high) = (low.min(high), low.max(high));
        let (model, registry) = (tiny(), pressroom_presses::registry().unwrap());
        let pairs = LAYERS * KV_HEADS * context.len();
        for (name, press) in all(&registry) {
            let outcomes = run(&model, &context, vec![(press.clone(), same(low)), (press, same(high))]);
            for (outcome, ratio) in outcomes.iter().zip([low, high]) {
                let held: usize = outcome.decisions.iter().flatten().map(Vec::len).sum();
                // Rounded up or down over all, or by layer; composite tokens round by whole rows of heads.
                let due = pairs as f64 * (1.0 - ratio);
                prop_assert!((held as f64 - due).abs() <= LAYERS as f64, "{} at {}: {} of {}", name, ratio, held, due);
                let lengths: Vec<Vec<i64>> =
                    outcome.decisions.iter().map(|layer| layer.iter().map(|kept| kept.len() as i64).collect()).collect();
                prop_assert_eq!(&outcome.cache.lengths(), &lengths, "{}", &name);
                let bytes = held * 2 * 8 * 4;
                prop_assert!((bytes..=bytes + LAYERS * (KV_HEADS + 1) * 8).contains(&outcome.cache.bytes()), "{}", name);
            }
            let (many, few) = (kept(&outcomes[0], context.len()), kept(&outcomes[1], context.len()));
            for (many, few) in many.iter().flatten().zip(few.iter().flatten()) {
                prop_assert!(few.iter().all(|position| many.contains(position)), "{}: {:?} in {:?}", name, few, many);
            }
        }
    }

    #[test]
    fn each_decides_alone_as_beside_the_others(context in tokens(), ratio in 0.1f64..0.8) {
        let (model, registry) = (tiny(), pressroom_presses::registry().unwrap());
        let mut sessions: Vec<(Built, Vec<Budget>)> =
            all(&registry).into_iter().map(|(_, press)| (press, same(ratio))).collect();
        let knorm = registry.find("knorm").unwrap().build(&Params::new(), vec![]).unwrap();
        sessions.insert(1, (knorm, same(ratio)));
        let together = run(&model, &context, sessions.clone());
        for (session, joint) in sessions.into_iter().zip(&together) {
            let alone = run(&model, &context, vec![session]).remove(0);
            prop_assert_eq!(&alone.decisions, &joint.decisions);
            prop_assert_eq!(alone.cache.position(), joint.cache.position());
        }
    }

    #[test]
    fn layers_with_budgets_of_their_own_keep_to_them(context in tokens()) {
        let (model, registry) = (tiny(), pressroom_presses::registry().unwrap());
        let budgets: Vec<Budget> = [0.2, 0.5, 0.6].map(|ratio| Budget::from_ratio(ratio).unwrap()).into();
        for (name, press) in all(&registry) {
            let outcome = run(&model, &context, vec![(press, budgets.clone())]).remove(0);
            for (layer, ratio) in outcome.decisions.iter().zip([0.2, 0.5, 0.6]) {
                let held = layer.iter().map(Vec::len).sum::<usize>() as f64;
                let due = (KV_HEADS * context.len()) as f64 * (1.0 - ratio);
                prop_assert!((held - due).abs() <= KV_HEADS as f64, "{} at {}: {} of {}", name, ratio, held, due);
            }
        }
    }
}

#[test]
fn nothing_to_remove_is_nothing_done() {
    let (model, registry) = (tiny(), pressroom_presses::registry().unwrap());
    let context: Vec<i64> = (0..30).collect();
    let counted = vec![Budget::from_tokens(100).unwrap(); LAYERS];
    for (name, press) in all(&registry) {
        for budgets in [same(0.0), counted.clone()] {
            let outcome = run(&model, &context, vec![(press.clone(), budgets)]).remove(0);
            assert_eq!(outcome.cache.lengths(), [[30, 30]; LAYERS], "{name}");
            assert_eq!(outcome.cache.position(), 30, "{name}");
        }
    }
}

#[test]
fn a_budget_in_tokens_is_so_many_a_head() {
    let (model, registry) = (tiny(), pressroom_presses::registry().unwrap());
    let context: Vec<i64> = (0..40).collect();
    for (name, press) in all(&registry) {
        let outcome = run(&model, &context, vec![(press, vec![Budget::from_tokens(10).unwrap(); LAYERS])]).remove(0);
        let held: usize = outcome.decisions.iter().flatten().map(Vec::len).sum();
        assert_eq!(held, 10 * KV_HEADS * LAYERS, "{name}");
    }
}

#[test]
fn one_token_repeated_and_short_contexts_are_compressed() {
    let (model, registry) = (tiny(), pressroom_presses::registry().unwrap());
    for context in [vec![5; 40], vec![1, 2, 3, 4, 5], vec![7, 8]] {
        for (name, press) in all(&registry) {
            let outcome = run(&model, &context, vec![(press, same(0.5))]).remove(0);
            let held: usize = outcome.decisions.iter().flatten().map(Vec::len).sum();
            assert!(held > 0, "{name} of {} tokens", context.len());
        }
    }
}

#[test]
fn side_data_of_another_model_is_refused() {
    let registry = pressroom_presses::registry().unwrap();
    let geometry = tiny().geometry();
    for name in ["fastkvzip", "restorekv"] {
        let method = built(&registry, name, &[]).into_method();
        let facts = ModelFacts::new("other", geometry, 48);
        let error = method.prepare(&facts).unwrap_err().to_string();
        assert!(error.contains("48"), "{error}");
        let absent = built(&registry, name, &[("side_data", Value::Text("tests".into()))]).into_method();
        assert!(absent.prepare(&facts).is_err());
    }
}

#[test]
fn damaged_archives_are_errors() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/presses/fastkvzip/gqa/q2_dim16_sink16.pt");
    let (whole, folder) = (std::fs::read(golden).unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("damaged.pt");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        pressroom::torch_archive::read(&path)
    };
    let layers = read(&whole).unwrap();
    assert_eq!(layers.get("module").unwrap().list().unwrap().len(), LAYERS);
    for length in (0..whole.len()).step_by(199) {
        assert!(read(&whole[..length]).unwrap_err().to_string().contains("no intact PyTorch archive"), "{length}");
    }
    for place in (0..whole.len()).step_by(41) {
        let mut flipped = whole.clone();
        flipped[place] ^= 0x55;
        // Not every byte of a zip file matters.
        let _ = read(&flipped);
    }
}
