//! Every press of the registry: promised sizes, nested kept sets, batches, determinism, extreme inputs.

use std::sync::Arc;

use pressroom::press::{Budget, Entry, Kind, Method, Params, Press, Registry, Selection, Value};
use pressroom::view::LayerView;
use proptest::prelude::*;
use tch::{Kind as Dtype, Tensor};

use crate::support::{GEOMETRY, rotary, values, view, view_of};

/// Small windows, so that short contexts are long enough.
fn params(registry: &Registry, name: &str) -> Params {
    let small = [("window_size", Value::Integer(4)), ("kernel_size", Value::Integer(3)), ("n_sink", Value::Integer(2))];
    let info = registry.find(name).unwrap().info();
    small
        .into_iter()
        .filter(|(param, _)| info.param(param).is_some())
        .map(|(param, value)| (param.to_owned(), value))
        .collect()
}

/// Every press, wrappers around every scorer.
fn all() -> Vec<(String, Arc<dyn Press>)> {
    let registry = pressroom_presses::registry().unwrap();
    let built = |name: &str, inner| registry.find(name).unwrap().build(&params(&registry, name), inner).unwrap();
    let (mut presses, mut scorers) = (Vec::new(), Vec::new());
    let by_layer = |entry: &&Entry| matches!(entry.info().kind, Kind::Scorer | Kind::Press);
    for entry in registry.entries().filter(by_layer).filter(|entry| entry.info().wraps.is_empty()) {
        let name = entry.info().name.clone();
        let built = built(&name, vec![]);
        if entry.info().kind == Kind::Scorer {
            scorers.push((name.clone(), built.clone()));
        }
        presses.push((name, built.into_press().unwrap()));
    }
    for entry in registry.entries().filter(|entry| !entry.info().wraps.is_empty()) {
        for (inner, scorer) in &scorers {
            let name = &entry.info().name;
            presses.push((format!("{name}({inner})"), built(name, vec![scorer.clone()]).into_press().unwrap()));
        }
    }
    presses
}

fn lists(press: &dyn Press, view: &LayerView<'_>, ratio: f64) -> Vec<Vec<i64>> {
    let selection = press.select(view, Budget::from_ratio(ratio).unwrap()).unwrap();
    selection.check(view.batch(), GEOMETRY.kv_heads, view.tokens()).unwrap();
    selection.to_lists((view.batch() * GEOMETRY.kv_heads) as usize, view.tokens()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn selections_have_the_promised_size_and_nest(seed in 0u64..500, tokens in 8i64..70, low in 0.0f64..0.99, high in 0.0f64..0.99) {
        let (low, high) = (low.min(high), low.max(high));
        let rotary = rotary();
        let view = view(seed, 1, tokens, 1.0, Dtype::Float, &rotary);
        for (name, press) in all() {
            let few = lists(press.as_ref(), &view, high);
            let many = lists(press.as_ref(), &view, low);
            let due = Budget::from_ratio(high).unwrap().kept(tokens) * GEOMETRY.kv_heads;
            prop_assert_eq!(few.iter().map(Vec::len).sum::<usize>() as i64, due, "{}", name);
            if !press.head_wise() {
                prop_assert!(few.iter().all(|head| head.len() as i64 * GEOMETRY.kv_heads == due), "{}", name);
            }
            for (few, many) in few.iter().zip(&many) {
                prop_assert!(few.iter().all(|index| many.contains(index)), "{}: {:?} not in {:?}", name, few, many);
            }
        }
    }

    #[test]
    fn ratio_zero_changes_nothing(seed in 0u64..500, tokens in 8i64..40) {
        let rotary = rotary();
        let view = view(seed, 1, tokens, 1.0, Dtype::Float, &rotary);
        for (name, press) in all() {
            prop_assert_eq!(lists(press.as_ref(), &view, 0.0), vec![(0..tokens).collect::<Vec<_>>(); 2], "{}", name);
        }
    }

    #[test]
    fn a_batch_is_its_sequences_one_by_one(seed in 0u64..500, tokens in 8i64..40, ratio in 0.1f64..0.9) {
        let rotary = rotary();
        let part = |data: &Tensor, index: i64| data.narrow(0, index, 1);
        let draw = |part: u64, heads: i64| values(seed * 3 + part, &[3, heads, tokens, 8]);
        let (keys, vals, queries) = (draw(0, 2), draw(1, 2), draw(2, 4));
        let batch = view_of(keys.shallow_clone(), vals.shallow_clone(), queries.shallow_clone(), &rotary);
        // Random numbers are drawn for the whole batch at once.
        for (name, press) in all().into_iter().filter(|(name, _)| !name.contains("random")) {
            let together = lists(press.as_ref(), &batch, ratio);
            for index in 0..3 {
                let alone = view_of(part(&keys, index), part(&vals, index), part(&queries, index), &rotary);
                let own = &together[2 * index as usize..2 * index as usize + 2];
                prop_assert_eq!(&lists(press.as_ref(), &alone, ratio), own, "{}", name);
            }
        }
    }

    #[test]
    fn extreme_inputs_give_usable_scores(seed in 0u64..100, kind in prop_oneof![Just(Dtype::Float), Just(Dtype::BFloat16), Just(Dtype::Half)], scale in prop_oneof![Just(0.0), Just(1e-7), Just(1e4)]) {
        let rotary = rotary();
        let view = view(seed, 1, 20, scale, kind, &rotary);
        for (name, press) in all() {
            let kept = lists(press.as_ref(), &view, 0.5);
            prop_assert_eq!(kept.iter().map(Vec::len).sum::<usize>(), 20, "{} at {} in {:?}", name, scale, kind);
        }
    }
}

#[test]
fn the_same_seed_decides_the_same() {
    let rotary = rotary();
    let (first, second) = (view(1, 1, 30, 1.0, Dtype::Float, &rotary), view(1, 1, 30, 1.0, Dtype::Float, &rotary));
    let other = view(1, 1, 30, 1.0, Dtype::Float, &rotary).with_seed(1);
    for (name, press) in all() {
        assert_eq!(lists(press.as_ref(), &first, 0.5), lists(press.as_ref(), &second, 0.5), "{name}");
        let differs = lists(press.as_ref(), &first, 0.5) != lists(press.as_ref(), &other, 0.5);
        assert_eq!(differs, name.contains("random"), "{name}");
    }
}

#[test]
fn windows_and_sinks_survive_ties() {
    let rotary = rotary();
    let view = view(1, 1, 40, 0.0, Dtype::Float, &rotary);
    for (name, press) in all() {
        let kept = lists(press.as_ref(), &view, 0.5);
        for head in kept {
            if name.contains("snapkv") {
                assert!((36..40).all(|index| head.contains(&index)), "{name}: the window is not in {head:?}");
            }
            if name.contains("expected_attention") || name.contains("streaming_llm") {
                assert!((0..2).all(|index| head.contains(&index)), "{name}: the sinks are not in {head:?}");
            }
        }
    }
}

#[test]
fn contexts_shorter_than_window_or_sinks_are_refused_with_the_numbers() {
    let rotary = rotary();
    for (name, press) in all() {
        let reserved = if name.contains("snapkv") {
            4
        } else if name.contains("expected") || name.contains("streaming") {
            2
        } else {
            continue;
        };
        let view = view(1, 1, reserved, 1.0, Dtype::Float, &rotary);
        let error = press.select(&view, Budget::from_ratio(0.5).unwrap()).unwrap_err().to_string();
        assert!(error.contains(&format!("the context has {reserved} tokens")), "{name}: {error}");
    }
}

#[test]
fn an_undeclared_read_is_refused() {
    let rotary = rotary();
    let view =
        LayerView::new(0, GEOMETRY, values(1, &[1, 2, 9, 8]), values(2, &[1, 2, 9, 8]), Default::default(), &rotary)
            .unwrap();
    for error in [
        view.hidden_states().err(),
        view.queries(pressroom::press::Span::Last(1)).err(),
        view.attention(pressroom::press::Span::All).err(),
    ] {
        assert!(error.unwrap().to_string().contains("do not declare"));
    }
}

#[test]
fn a_chain_is_its_stages_one_after_another() {
    use pressroom::press::{Pipeline, Stage};
    let rotary = rotary();
    let view = view(5, 1, 48, 1.0, Dtype::Float, &rotary);
    let presses = all();
    let find = |wanted: &str| presses.iter().find(|(name, _)| name == wanted).unwrap().1.clone();
    let stage = |name: &str, ratio: f64| Stage {
        method: Method::Layer(find(name)),
        budgets: vec![Budget::from_ratio(ratio).unwrap()],
    };
    for last in ["snapkv", "expected_attention", "streaming_llm", "knorm", "adakv(snapkv)"] {
        let chain = Pipeline::new(vec![stage("knorm", 0.5), stage(last, 0.5)], 1).unwrap();
        let kept = chain.select(&view).unwrap().to_lists(2, 48).unwrap();
        assert_eq!(kept.iter().map(Vec::len).sum::<usize>(), 24, "{last}");
        let first = lists(find("knorm").as_ref(), &view, 0.5);
        for (kept, first) in kept.iter().zip(&first) {
            assert!(kept.iter().all(|index| first.contains(index)), "{last}");
        }
    }
    let twice = vec![stage("adakv(knorm)", 0.5), stage("adakv(snapkv)", 0.5)];
    let refused = Pipeline::new(twice, 1).err().unwrap().to_string();
    assert!(refused.contains("adakv(") && refused.contains("cannot follow it"), "{refused}");
}

#[test]
fn a_press_that_panics_or_decides_nonsense_is_an_error_of_its_own() {
    type Decide = fn(&LayerView<'_>) -> Selection;
    struct Broken(Decide);
    impl Press for Broken {
        fn identity(&self) -> String {
            "broken".into()
        }
        fn needs(&self) -> pressroom::press::Needs {
            pressroom::press::Needs::KEYS_AND_VALUES
        }
        fn select(&self, view: &LayerView<'_>, _: Budget) -> pressroom::Result<Selection> {
            Ok((self.0)(view))
        }
    }
    let model = crate::support::tiny();
    let tokens: Vec<i64> = (0..20).collect();
    let pipeline = |press: Arc<dyn Press>| {
        let budgets = vec![Budget::from_ratio(0.5).unwrap(); 3];
        pressroom::press::Pipeline::new(vec![pressroom::press::Stage { method: Method::Layer(press), budgets }], 3)
            .unwrap()
    };
    let knorm = all().remove(1).1;
    let cases: [(Decide, &str); 3] = [
        (|view| Selection::uniform(&view.keys().matmul(view.keys())).unwrap(), "panicked"),
        (|_| Selection::uniform(&Tensor::from_slice(&[99i64, 98]).view([1, 2, 1])).unwrap(), "index 99 of 20 tokens"),
        (|_| Selection::uniform(&Tensor::from_slice(&[1i64]).view([1, 1, 1])).unwrap(), "1 heads where there are 2"),
    ];
    for (decide, expected) in cases {
        let mut broken = pressroom::pipeline::Session::new(pipeline(Arc::new(Broken(decide))));
        let mut sound = pressroom::pipeline::Session::new(pipeline(knorm.clone()));
        let outcomes = model.prefill(&tokens, 0, &mut [&mut broken, &mut sound]).unwrap();
        let error = outcomes[0].as_ref().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(outcomes[1].is_ok());
        assert_eq!(sound.finish(3).unwrap().cache.lengths(), [[10, 10]; 3]);
        assert!(broken.finish(3).is_err());
    }
}
