//! Presses of the decoding phase: memory stays bounded, questions do not meet, ragged caches are served.

use pressroom::hooks::AttentionHook;
use pressroom::model::{Llama, Step};
use pressroom::pipeline::{Answer, Asked, Compressed, DecodeOptions, Session, answer};
use pressroom::press::{Budget, Built, Params, Pipeline, Stage, Value};

use crate::support::tiny;

fn build(name: &str, params: &[(&str, Value)], inner: Vec<Built>) -> Built {
    let registry = pressroom_presses::registry().unwrap();
    let params: Params = params.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    registry.find(name).unwrap().build(&params, inner).unwrap()
}

fn scorer(name: &str) -> Built {
    let small: &[(&str, Value)] = match name {
        "snapkv" => &[("window_size", Value::Integer(4))],
        _ => &[],
    };
    build(name, small, vec![])
}

/// To 12 pairs, every 5 passes.
fn decoding(name: &str, base: Built) -> Built {
    build(name, &[("compression_interval", Value::Integer(5)), ("target_size", Value::Integer(12))], vec![base])
}

fn dms(threshold: f64) -> Built {
    let params = [
        ("threshold", Value::Number(threshold)),
        ("sliding_window_size", Value::Integer(6)),
        ("decoding", Value::Flag(true)),
    ];
    build("dms", &params, vec![scorer("knorm")])
}

/// Presses of the decoding phase around bases of every kind, alone and after a head-wise prefill. None ranks by key
/// norms alone: those of one token are equal at every position of the first layer, so that rounding would decide.
pub fn pipelines() -> Vec<(String, Pipeline)> {
    let adakv = || build("adakv", &[], vec![scorer("keydiff")]);
    let stage = |built: Built, ratio: f64| Stage {
        method: built.into_method(),
        budgets: vec![Budget::from_ratio(ratio).unwrap(); 3],
    };
    let mut all = Vec::new();
    for name in ["keydiff", "random", "snapkv", "expected_attention", "streaming_llm", "observed_attention", "adakv"] {
        let base = || if name == "adakv" { adakv() } else { scorer(name) };
        let alone = vec![stage(decoding("decoding", base()), 0.0)];
        let after = vec![stage(adakv(), 0.5), stage(decoding("decoding", base()), 0.0)];
        all.push((name.to_owned(), alone));
        all.push((format!("adakv > {name}"), after));
    }
    all.push(("cam".into(), vec![stage(decoding("cam", scorer("keydiff")), 0.0)]));
    all.push(("adakv > cam".into(), vec![stage(adakv(), 0.5), stage(decoding("cam", scorer("keydiff")), 0.0)]));
    all.push(("dms".into(), vec![stage(dms(-3.0), 0.0)]));
    all.push(("keydiff > dms".into(), vec![stage(scorer("keydiff"), 0.25), stage(dms(-3.0), 0.0)]));
    all.into_iter().map(|(name, stages)| (name, Pipeline::new(stages, 3).unwrap())).collect()
}

fn compress(model: &Llama, context: &[i64], pipelines: Vec<Pipeline>) -> Vec<Compressed> {
    let mut sessions: Vec<Session> = pipelines.into_iter().map(Session::new).collect();
    let mut hooks: Vec<&mut dyn AttentionHook> = sessions.iter_mut().map(|s| s as &mut dyn AttentionHook).collect();
    model.prefill(context, 3, &mut hooks).unwrap().into_iter().for_each(|outcome| outcome.unwrap());
    sessions.into_iter().map(|session| session.finish(3).unwrap()).collect()
}

#[test]
fn a_cache_never_holds_more_than_the_target_and_an_interval() {
    let model = tiny();
    let context: Vec<i64> = (0..30).map(|index| index * 7 % 64).collect();
    let (names, pipelines): (Vec<_>, Vec<_>) = pipelines().into_iter().unzip();
    for (name, compressed) in names.iter().zip(compress(&model, &context, pipelines)) {
        let mut hook = compressed.start().unwrap();
        let mut cache = compressed.cache.fork().unwrap();
        for pass in 0i64..60 {
            let tokens = [pass * 5 % 64];
            let _hidden =
                model.forward(&mut [Step { tokens: &tokens, cache: &mut cache, hook: Some(hook.as_mut()) }]).unwrap();
            assert_eq!(cache.position(), 31 + pass, "{name}");
            for lengths in cache.lengths() {
                let held: i64 = lengths.iter().sum();
                assert!(pass < 5 || name.contains("dms") || held <= 2 * (12 + 4), "{name} pass {pass}: {lengths:?}");
            }
        }
        // Of the tail's room a token is at most doubled.
        let pairs: i64 = cache.lengths().iter().flatten().sum();
        let (bytes, exact) = (cache.bytes() as i64, pairs * 2 * 8 * 4);
        assert!(bytes <= exact + 3 * 2 * 64 * 2 * 8 * 4 + 3 * 24, "{name}: {bytes} for {pairs} pairs");
    }
}

#[test]
fn every_question_is_answered_as_if_it_were_the_only_one() {
    let model = tiny();
    let context: Vec<i64> = (0..26).map(|index| index * 11 % 64).collect();
    let (names, pipelines): (Vec<_>, Vec<_>) = pipelines().into_iter().unzip();
    let contexts = compress(&model, &context, pipelines);
    let questions: [Vec<i64>; 3] = [vec![5, 9, 2], vec![61], (20..34).collect()];
    let options = DecodeOptions { max_new_tokens: 17, eos_token_ids: vec![] };
    for (name, context) in names.iter().zip(&contexts) {
        let before = (context.cache.lengths(), context.cache.bytes());
        let ask = |asked: &[Asked<'_>]| answer(&model, asked, &options, &mut |_, _| {}).unwrap();
        let asked = questions.each_ref().map(|question| Asked { context, question });
        let alone: Vec<Answer> = asked.iter().map(|asked| ask(&[*asked]).remove(0)).collect();
        assert_eq!(ask(&asked), alone, "{name}");
        assert_eq!(ask(&[asked[2], asked[0]]), [alone[2].clone(), alone[0].clone()], "{name}");
        assert_eq!((context.cache.lengths(), context.cache.bytes()), before, "{name}");
    }
}

#[test]
fn the_run_seed_reaches_what_is_drawn_while_decoding() {
    let model = tiny();
    let context: Vec<i64> = (0..26).collect();
    let options = DecodeOptions { max_new_tokens: 20, eos_token_ids: vec![] };
    let answers: Vec<Answer> = (0..12)
        .map(|seed| {
            let mut session = Session::new(pipelines().swap_remove(2).1);
            model.prefill(&context, seed, &mut [&mut session]).unwrap().remove(0).unwrap();
            let context = session.finish(3).unwrap();
            answer(&model, &[Asked { context: &context, question: &[1] }], &options, &mut |_, _| {}).unwrap().remove(0)
        })
        .collect();
    assert!(answers.iter().any(|other| *other != answers[0]), "twelve seeds, one answer");
}

#[test]
fn what_cannot_be_a_base_press_is_refused() {
    let registry = pressroom_presses::registry().unwrap();
    let error = registry.find("dms").unwrap().build(&Params::new(), vec![scorer("knorm")]).err().unwrap().to_string();
    assert!(error.contains("needs a `threshold`"), "{error}");
    let nested = vec![scorer("knorm"), dms(0.0)];
    let error = registry.find("prefill_decoding").unwrap().build(&Params::new(), nested).err().unwrap().to_string();
    assert!(error.contains("decides during the prefill too"), "{error}");
}
