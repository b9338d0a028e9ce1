//! The whole path on a tiny model: positions, questions, batches, sessions.

use pressroom::cache::KvCache;
use pressroom::hooks::AttentionHook;
use pressroom::model::{Llama, Step};
use pressroom::pipeline::{Asked, Compressed, DecodeOptions, Session, answer};
use pressroom::press::{Budget, Params, Pipeline, Stage};
use proptest::prelude::*;
use tch::Tensor;

use crate::generator::{alone, samples};
use crate::support::{keep, tiny};

pub fn pipeline(name: &str, ratio: f64) -> Pipeline {
    let registry = pressroom_presses::registry().unwrap();
    let entry = registry.find(name.trim_start_matches("adakv-")).unwrap();
    let scorer = entry.build(&Params::new(), vec![]).unwrap();
    let built = if name.starts_with("adakv-") {
        registry.find("adakv").unwrap().build(&Params::new(), vec![scorer]).unwrap()
    } else {
        scorer
    };
    let budgets = vec![Budget::from_ratio(ratio).unwrap(); 3];
    Pipeline::new(vec![Stage { method: built.into_method(), budgets }], 3).unwrap()
}

/// The press of this name, small, around whatever the generator draws.
fn small(name: &str, ratio: f64) -> Pipeline {
    let every = samples(0);
    let sample = every.iter().find(|sample| sample.name.split('(').next() == Some(name)).unwrap();
    alone(sample.method(), Budget::from_ratio(ratio).unwrap())
}

fn compress(model: &Llama, context: &[i64], pipelines: Vec<Pipeline>) -> Vec<KvCache> {
    sessions(model, context, pipelines).into_iter().map(|compressed| compressed.cache).collect()
}

pub fn sessions(model: &Llama, context: &[i64], pipelines: Vec<Pipeline>) -> Vec<Compressed> {
    let mut sessions: Vec<Session> = pipelines.into_iter().map(Session::new).collect();
    let mut hooks: Vec<&mut dyn AttentionHook> = sessions.iter_mut().map(|s| s as &mut dyn AttentionHook).collect();
    for outcome in model.prefill(context, 0, &mut hooks).unwrap() {
        outcome.unwrap();
    }
    sessions.into_iter().map(|session| session.finish(3).unwrap()).collect()
}

/// Logits of tokens that follow a cache, which stays as it is.
pub fn step_logits(model: &Llama, cache: &KvCache, tokens: &[i64]) -> Tensor {
    let mut fork = cache.fork().unwrap();
    let hidden = model.forward(&mut [Step { tokens, cache: &mut fork, hook: None }]).unwrap();
    model.logits(&hidden).unwrap()
}

fn tokens(length: usize) -> impl Strategy<Value = Vec<i64>> {
    proptest::collection::vec(0i64..64, length)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn nothing_compressed_is_the_plain_model(context in tokens(30), question in tokens(5)) {
        let model = tiny();
        let cache = compress(&model, &context, vec![Pipeline::default()]).remove(0);
        prop_assert_eq!(cache.position(), 30);
        let split = step_logits(&model, &cache, &question);
        let whole = [context, question].concat();
        let joined = step_logits(&model, &model.empty_cache().unwrap(), &whole).narrow(0, 30, 5);
        let off = f64::try_from((split - joined).abs().max()).unwrap();
        prop_assert!(off < 1e-4, "off by {}", off);
    }

    #[test]
    fn compressed_answers_are_those_of_masked_attention(context in tokens(24), question in tokens(3), name in prop_oneof![Just("knorm"), Just("adakv"), Just("pyramidkv"), Just("headkv")]) {
        // The cache of a press against the full cache from which the same pairs are selected afterwards.
        let model = tiny();
        let mut session = Session::new(small(name, 0.5));
        let outcomes = model.prefill(&context, 0, &mut [&mut session]).unwrap();
        prop_assert!(outcomes[0].is_ok());
        let decisions = session.decisions().to_vec();
        let compressed = session.finish(3).unwrap().cache;
        let full = compress(&model, &context, vec![Pipeline::default()]).remove(0);
        let masked = keep(&full, &decisions);
        prop_assert_eq!(masked.lengths(), compressed.lengths());
        let off = (step_logits(&model, &masked, &question) - step_logits(&model, &compressed, &question)).abs().max();
        prop_assert!(f64::try_from(off).unwrap() < 1e-4);
    }

    #[test]
    fn a_batch_answers_as_each_alone_and_questions_in_any_order(context in tokens(26), first in tokens(4), second in tokens(7)) {
        let model = tiny();
        let contexts = sessions(&model, &context, vec![pipeline("knorm", 0.5), pipeline("adakv-knorm", 0.7), Pipeline::default()]);
        let state = |context: &Compressed| (context.cache.lengths(), context.cache.bytes(), context.cache.position());
        let before: Vec<_> = contexts.iter().map(state).collect();
        let options = DecodeOptions { max_new_tokens: 6, eos_token_ids: vec![2] };
        let asked: Vec<Asked<'_>> =
            contexts.iter().flat_map(|context| [&first, &second].map(|question| Asked { context, question })).collect();
        let together = answer(&model, &asked, &options, &mut |_, _| {}).unwrap();
        for (question, joint) in asked.iter().zip(&together).rev() {
            let alone = answer(&model, &[*question], &options, &mut |_, _| {}).unwrap().remove(0);
            prop_assert_eq!(&alone, joint);
        }
        let after: Vec<_> = contexts.iter().map(state).collect();
        prop_assert_eq!(before, after);
    }

    #[test]
    fn a_rollback_undoes_what_was_appended(context in tokens(20), kept in 0usize..5, forgotten in tokens(4), next in tokens(3)) {
        let model = tiny();
        for name in ["knorm", "adakv-knorm"] {
            let mut cache = compress(&model, &context, vec![pipeline(name, 0.5)]).remove(0);
            let lengths = cache.lengths();
            let run =
                |cache: &mut KvCache, tokens: &[i64]| drop(model.forward(&mut [Step { tokens, cache, hook: None }]).unwrap());
            if kept > 0 {
                run(&mut cache, &context[..kept]);
            }
            let expected = step_logits(&model, &cache, &next);
            run(&mut cache, &forgotten);
            cache.rollback((20 + kept) as i64).unwrap();
            prop_assert_eq!(cache.position(), (20 + kept) as i64);
            prop_assert_eq!(step_logits(&model, &cache, &next), expected);
            // Back to the context's end, not into it.
            cache.rollback(20).unwrap();
            prop_assert_eq!(cache.lengths(), lengths);
            prop_assert!(cache.rollback(19).is_err());
        }
    }

    #[test]
    fn sharing_a_prefill_changes_no_decision(context in tokens(40)) {
        let model = tiny();
        let names = ["knorm", "expected_attention", "streaming_llm", "random", "adakv-expected_attention"];
        let all = || names.iter().flat_map(|name| [0.25, 0.5].map(|ratio| pipeline(name, ratio)));
        let shared = compress(&model, &context, all().collect());
        for (pipeline, shared) in all().zip(shared) {
            let alone = compress(&model, &context, vec![pipeline]).remove(0);
            prop_assert_eq!(alone.lengths(), shared.lengths());
            let probe = |cache| Vec::<f32>::try_from(step_logits(&model, cache, &[3]).flatten(0, -1)).unwrap();
            prop_assert_eq!(probe(&alone), probe(&shared));
        }
    }
}

#[test]
fn adakv_holds_one_minus_ratio_of_the_bytes() {
    let model = tiny();
    let context: Vec<i64> = (0..2000).map(|index| index * 7 % 64).collect();
    let full = compress(&model, &context, vec![Pipeline::default()]).remove(0).bytes() as f64;
    for ratio in [0.1, 0.25, 0.5, 0.75, 0.9] {
        let bytes =
            compress(&model, &context, vec![pipeline("adakv-expected_attention", ratio)]).remove(0).bytes() as f64;
        let share = bytes / full / (1.0 - ratio);
        assert!((share - 1.0).abs() < 0.02, "ratio {ratio}: {share}");
    }
}

#[test]
fn a_session_leaves_nothing_behind_for_the_next_sample() {
    let model = tiny();
    let context: Vec<i64> = (0..30).collect();
    let first = compress(&model, &context, vec![pipeline("expected_attention", 0.5)]).remove(0);
    // A session that fails: the context is shorter than the observation window.
    let mut failing = Session::new(pipeline("snapkv", 0.5));
    assert!(model.prefill(&context, 0, &mut [&mut failing]).unwrap()[0].is_err());
    let second = compress(&model, &context, vec![pipeline("expected_attention", 0.5)]).remove(0);
    assert_eq!(step_logits(&model, &first, &[1]), step_logits(&model, &second, &[1]));
}

#[test]
fn bad_requests_are_errors() {
    let model = tiny();
    assert!(model.prefill(&[], 0, &mut []).unwrap_err().to_string().contains("empty"));
    let error = model.prefill(&[1, 64], 0, &mut []).unwrap_err().to_string();
    assert!(error.contains("token id 64") && error.contains("vocabulary of 64"), "{error}");
    let context = Compressed { cache: model.empty_cache().unwrap(), decisions: vec![], decoding: None };
    let ask = |question, options| answer(&model, &[Asked { context: &context, question }], options, &mut |_, _| {});
    let none = DecodeOptions { max_new_tokens: 0, eos_token_ids: vec![] };
    assert!(ask(&[1], &none).is_err());
    let some = DecodeOptions { max_new_tokens: 1, eos_token_ids: vec![] };
    assert!(ask(&[], &some).unwrap_err().to_string().contains("without new tokens"));
}
