//! SmolLM2 in bfloat16 beside float32: the same context, the same kept pairs, the same answers up to the format.

use pressroom::cache::KvCache;
use pressroom::hooks::AttentionHook;
use pressroom::model::{Llama, Step};
use pressroom::pipeline::Session;
use pressroom::press::{Budget, Pipeline, RaggedIndices, Selection, Stage};
use tch::{Kind, Tensor};

use crate::answers::{Answers, smollm2};
use crate::build::build;
use crate::support;

/// Relative error, root mean square, that bfloat16's roundings add up to in quadrature: each result has 8 significant
/// bits and an error spread evenly over half a unit of the last, and each of 30 layers rounds a dozen times (two norms,
/// queries and keys, rotary embedding, attention, output, two residuals, gate and up, their product, down).
fn bound() -> f64 {
    2f64.powi(-8) / 3f64.sqrt() * (30.0f64 * 12.0).sqrt()
}

fn sessions(model: &Llama, context: &[i64], pipelines: Vec<Pipeline>) -> Vec<Session> {
    let mut sessions: Vec<Session> = pipelines.into_iter().map(Session::new).collect();
    let mut hooks: Vec<&mut dyn AttentionHook> = sessions.iter_mut().map(|s| s as &mut dyn AttentionHook).collect();
    for outcome in model.prefill(context, 0, &mut hooks).unwrap() {
        outcome.unwrap();
    }
    sessions
}

fn logits(model: &Llama, cache: &KvCache, tokens: &[i64]) -> Tensor {
    let mut fork = cache.fork().unwrap();
    let hidden = model.forward(&mut [Step { tokens, cache: &mut fork, hook: None }]).unwrap();
    model.logits(&hidden).unwrap().to_kind(Kind::Double)
}

#[test]
fn bfloat16_answers_are_float32s_as_far_as_the_format_allows() {
    let _alone = support::alone();
    let folder = smollm2();
    let (exact, model) = (support::load(&folder), support::load_in(&folder, Kind::BFloat16));
    let layers = model.geometry().layers;
    let golden: Answers = support::json("answers.json");
    let context = &golden.contexts[0];
    assert!(context.context_ids.len() < 400, "a short one");
    let registry = pressroom_presses::registry().unwrap();
    let cases = golden.cases.iter().filter(|case| case.context == context.id && [0.0, 0.5].contains(&case.ratio));
    let cases: Vec<_> = cases.collect();
    assert!(cases.len() > 6);
    let pipelines = cases.iter().map(|case| {
        if case.press == "none" {
            return Pipeline::default();
        }
        let method = build(&registry, &case.press, &case.params).into_method();
        let stage = Stage { method, budgets: vec![Budget::from_ratio(case.ratio).unwrap(); layers] };
        Pipeline::new(vec![stage], layers).unwrap()
    });
    let pressed = sessions(&model, &context.context_ids, pipelines.collect());
    let full =
        sessions(&exact, &context.context_ids, vec![Pipeline::default()]).remove(0).finish(layers).unwrap().cache;
    let (mut clear_steps, mut steps) = (0, 0);
    for (case, session) in cases.iter().zip(pressed) {
        let kept = session.decisions().to_vec();
        let cache = session.finish(layers).unwrap().cache;
        let same = full.layers().iter().zip(&kept).map(|(layer, heads)| {
            let mut indptr = vec![0];
            for head in heads {
                indptr.push(indptr[indptr.len() - 1] + head.len() as i64);
            }
            let indices = Tensor::from_slice(&heads.concat());
            layer.select(&Selection::ragged(RaggedIndices { indices, indptr })).unwrap()
        });
        let same = KvCache::from_layers(same.collect(), full.position());
        let fed =
            [&case.answers[0].question_ids[..], &case.answers[0].ids[..8.min(case.answers[0].ids.len() - 1)]].concat();
        let (ours, due) = (logits(&model, &cache, &fed), logits(&exact, &same, &fed));
        let rms = |tensor: &Tensor| f64::try_from(tensor.square().mean(Kind::Double)).unwrap().sqrt();
        let off = rms(&(&ours - &due)) / rms(&due);
        assert!(off > 0.0 && off < bound(), "{}: logits are off by {off}", case.id);
        // Where float32's best logit stands clear of the error, bfloat16 takes the same token.
        let error = rms(&(&ours - &due));
        let (best, _) = due.topk(2, 1, true, true);
        let clear = (best.select(1, 0) - best.select(1, 1)).gt(6.0 * error);
        let agree = ours.argmax(1, false).eq_tensor(&due.argmax(1, false));
        let count = |flags: &Tensor| i64::try_from(flags.sum(Kind::Int64)).unwrap();
        clear_steps += count(&clear);
        assert_eq!(count(&clear.logical_and(&agree)), count(&clear), "{}: {ours} against {due}", case.id);
        steps += fed.len() as i64;
    }
    assert!(2 * clear_steps > steps, "only {clear_steps} of {steps} steps are clear of the error");
}
