//! Every press of the registry and random chains of them: promised sizes, order, nested kept sets, batches,
//! determinism, extreme inputs, half precision, bytes.

use std::sync::Arc;

use pressroom::pipeline::{Compressed, ContextTokens, compress};
use pressroom::press::{Budget, Method, Pipeline, Press, PromptParts, Scorer, Selection, Stage};
use pressroom::view::LayerView;
use proptest::prelude::*;
use tch::{Kind as Dtype, Tensor};

use crate::generator::{SHORTEST, alone, chain, layered, samples, scorers};
use crate::support::{GEOMETRY, Layer, QUESTION, rotary, tiny, values, view};

/// Half of the KV pairs.
fn half() -> Budget {
    Budget::from_ratio(0.5).unwrap()
}

/// Kept indices of every KV head; the selection has passed the checks of a session: in range, ascending, none twice.
fn lists(name: &str, press: &dyn Press, view: &LayerView<'_>, budget: Budget) -> Vec<Vec<i64>> {
    let selection = press.select(view, budget);
    checked(name, view, &selection.unwrap_or_else(|error| panic!("{name}: {error}")))
}

fn checked(name: &str, view: &LayerView<'_>, selection: &Selection) -> Vec<Vec<i64>> {
    let (batch, tokens) = (view.batch(), view.tokens());
    selection.check(batch, GEOMETRY.kv_heads, tokens).unwrap_or_else(|error| panic!("{name}: {error}"));
    selection.to_lists((batch * GEOMETRY.kv_heads) as usize, tokens).unwrap()
}

fn total(lists: &[Vec<i64>]) -> i64 {
    lists.iter().map(Vec::len).sum::<usize>() as i64
}

fn subset(few: &[Vec<i64>], many: &[Vec<i64>]) -> bool {
    few.iter().zip(many).all(|(few, many)| few.iter().all(|index| many.contains(index)))
}

/// The press of this name, which wraps none.
fn press_called(name: &str) -> Arc<dyn Press> {
    layered(0).into_iter().find(|(sample, _)| sample.name == name).unwrap().1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn selections_have_the_promised_size(
        seed in 0u64..1000,
        tokens in SHORTEST..70,
        budget in prop_oneof![
            (0.01f64..0.99).prop_map(|ratio| Budget::from_ratio(ratio).unwrap()),
            (1usize..80).prop_map(|tokens| Budget::from_tokens(tokens).unwrap()),
        ],
    ) {
        let rotary = rotary();
        let layer = Layer::new(seed, 1, tokens, 1.0, Dtype::Float);
        let views = [0, 1, 2].map(|index| layer.view_of_layer(index, &rotary));
        for (sample, press) in layered(seed).into_iter().filter(|(sample, _)| sample.given) {
            let name = &sample.name;
            let kept = views.each_ref().map(|view| lists(name, press.as_ref(), view, budget));
            if let Some(scorer) = sample.scorer() {
                for (view, kept) in views.iter().zip(&kept) {
                    let due = scorer.kept(view, budget);
                    prop_assert!(kept.iter().all(|head| head.len() as i64 == due), "{} keeps {} of {}", name, due, tokens);
                }
                continue;
            }
            // What a ratio leaves is what its measured curve says.
            if name.starts_with("lukv(") {
                continue;
            }
            // Heads, and layers too, may move their budgets.
            let each = kept.each_ref().map(|kept| total(kept));
            let even: i64 = 3 * budget.kept(tokens);
            let wrapped = |scorer: &Arc<dyn Scorer>| views.iter().map(|view| scorer.kept(view, budget)).sum();
            let promised = [even, sample.wrapped.as_ref().map_or(even, wrapped)].map(|kept| kept * GEOMETRY.kv_heads);
            let off = promised.map(|due| (each.iter().sum::<i64>() - due).abs()).into_iter().min().unwrap();
            prop_assert!(off <= 3 * sample.slack(tokens), "{}: {:?}, {:?} are due in all", name, each, promised);
            let uniform = |kept: &Vec<Vec<i64>>| kept.iter().all(|head| head.len() == kept[0].len());
            prop_assert!(press.head_wise() || kept.iter().all(uniform), "{}", name);
        }
    }

    #[test]
    fn what_a_scorer_keeps_at_a_higher_ratio_it_keeps_at_a_lower_one(
        seed in 0u64..1000, tokens in SHORTEST..70, low in 0.01f64..0.99, high in 0.01f64..0.99,
    ) {
        let rotary = rotary();
        let view = view(seed, tokens, &rotary);
        for (sample, scorer) in scorers(seed).into_iter().filter(|(_, scorer)| !scorer.scores_depend_on_budget()) {
            let press = sample.press().unwrap();
            let kept = |ratio| lists(&sample.name, press.as_ref(), &view, Budget::from_ratio(ratio).unwrap());
            let (few, many) = (kept(low.max(high)), kept(low.min(high)));
            prop_assert!(subset(&few, &many), "{} {}: {:?} in {:?}", sample.name, scorer.identity(), few, many);
        }
    }

    #[test]
    fn ratio_zero_changes_nothing(seed in 0u64..1000, tokens in SHORTEST..40) {
        let rotary = rotary();
        let view = view(seed, tokens, &rotary);
        for (sample, press) in layered(seed).into_iter().filter(|(sample, _)| sample.given) {
            let selection = press.select(&view, Budget::ALL).unwrap();
            prop_assert_eq!(checked(&sample.name, &view, &selection), vec![(0..tokens).collect::<Vec<_>>(); 2]);
            prop_assert!(selection.edits().is_empty(), "{}", sample.name);
        }
    }

    #[test]
    fn a_batch_is_its_sequences_one_by_one(seed in 0u64..1000, tokens in SHORTEST..40, ratio in 0.1f64..0.9) {
        let rotary = rotary();
        let layer = Layer::new(seed, 3, tokens, 1.0, Dtype::Float);
        let (batch, budget) = (layer.view(&rotary), Budget::from_ratio(ratio).unwrap());
        for (sample, press) in layered(seed) {
            let together = lists(&sample.name, press.as_ref(), &batch, budget);
            for index in 0..3 {
                let one = layer.sequence(index);
                let own = &together[2 * index as usize..2 * index as usize + 2];
                let due = lists(&sample.name, press.as_ref(), &one.view(&rotary), budget);
                prop_assert_eq!(&due, own, "{}", sample.name);
            }
        }
    }

    #[test]
    fn extreme_inputs_are_decided_on(
        seed in 0u64..1000,
        kind in prop_oneof![Just(Dtype::Float), Just(Dtype::BFloat16), Just(Dtype::Half)],
        scale in prop_oneof![Just(0.0), Just(1e-7), Just(1.0), Just(1e4)],
        repeated in any::<bool>(),
    ) {
        let rotary = rotary();
        let layer = Layer::new(seed, 1, 24, scale, kind);
        let layer = if repeated { layer.repeated() } else { layer };
        let view = layer.view(&rotary);
        for (sample, press) in layered(seed) {
            // Scores and new values that are not finite are refused on the way.
            let kept = lists(&sample.name, press.as_ref(), &view, half());
            prop_assert!(total(&kept) > 0, "{} at {} in {:?}", sample.name, scale, kind);
        }
    }

    #[test]
    fn scores_of_half_precision_are_those_of_the_same_numbers(seed in 0u64..1000, tokens in SHORTEST..40) {
        let rotary = rotary();
        let brief = Layer::new(seed, 1, tokens, 1.0, Dtype::BFloat16);
        let float = brief.map(|part, _| part.to_kind(Dtype::Float));
        let (brief, float) = (brief.view(&rotary), float.view(&rotary));
        let budget = half();
        for (sample, scorer) in scorers(seed) {
            let scores = |view: &LayerView<'_>| Vec::<f32>::try_from(view.scores(scorer.as_ref(), budget).unwrap().flatten(0, -1)).unwrap();
            let (ours, due) = (scores(&brief), scores(&float));
            let largest = due.iter().copied().filter(|due| due.is_finite()).fold(0.0f32, |most, due| most.max(due.abs()));
            for (ours, due) in ours.into_iter().zip(due) {
                prop_assert!(ours == due || (ours - due).abs() <= 1e-4 * largest, "{}: {} for {}", sample.name, ours, due);
            }
        }
    }

    #[test]
    fn decisions_depend_on_the_seed_of_what_draws_and_on_no_other(seed in 0u64..1000, tokens in SHORTEST..40) {
        let rotary = rotary();
        let [first, second, other] = [0, 0, 1].map(|run| view(seed, tokens, &rotary).with_seed(run));
        let mut drawn = 0;
        for (sample, press) in layered(seed) {
            let decide = |view| lists(&sample.name, press.as_ref(), view, half());
            prop_assert_eq!(decide(&first), decide(&second), "{}", sample.name);
            let differs = decide(&first) != decide(&other);
            prop_assert!(sample.draws || !differs, "{}", sample.name);
            drawn += usize::from(differs);
        }
        prop_assert!(drawn > 0);
    }

    #[test]
    fn every_stage_of_a_chain_keeps_of_what_the_stages_before_left(seed in any::<u64>(), tokens in 40i64..70) {
        let rotary = rotary();
        let view = view(seed % 1000, tokens, &rotary);
        let (name, stages) = chain(&layered(seed).into_iter().map(|(sample, _)| sample).collect::<Vec<_>>(), seed);
        if Pipeline::new(stages.clone(), GEOMETRY.layers).is_err() {
            return Ok(());
        }
        let mut before = vec![(0..tokens).collect::<Vec<i64>>(); GEOMETRY.kv_heads as usize];
        for count in 1..=stages.len() {
            let pipeline = Pipeline::new(stages[..count].to_vec(), GEOMETRY.layers).unwrap();
            let decide = || pipeline.select(&view).unwrap_or_else(|error| panic!("{name}: {error}"));
            let kept = checked(&name, &view, &decide());
            prop_assert_eq!(&kept, &checked(&name, &view, &decide()), "{}", name);
            prop_assert!(subset(&kept, &before), "{}", name);
            before = kept;
        }
    }
}

/// A context compressed by every pipeline, from one prefill.
fn compressed(pipelines: &[&Pipeline], tokens: &[i64]) -> Vec<Compressed> {
    let encode = |text: &str| Ok(text.bytes().take(8).map(|byte| i64::from(byte % 64)).collect());
    let prompt = PromptParts { prefix_tokens: 1, suffix: &[3, 4], encode: &encode };
    let context = ContextTokens { tokens, question_tokens: QUESTION as usize, prompt, seed: 0 };
    let outcomes = compress(&tiny(), context, pipelines).unwrap().into_iter().zip(pipelines);
    outcomes
        .map(|(outcome, pipeline)| outcome.unwrap_or_else(|error| panic!("{}: {error}", pipeline.identity())))
        .collect()
}

#[test]
fn presses_and_chains_read_what_they_declare() {
    // Each in a prefill of its own: what others declare would be there for it too.
    let tokens: Vec<i64> = (0..48).collect();
    for seed in 0..3 {
        let every = samples(seed);
        for sample in &every {
            compressed(&[&alone(sample.method(), half())], &tokens);
        }
        let chains = (0..30).map(|index| chain(&every, 30 * seed + index).1);
        let pipelines: Vec<Pipeline> =
            chains.filter_map(|stages| Pipeline::new(stages, GEOMETRY.layers).ok()).collect();
        assert!(pipelines.len() > 5, "hardly a chain means anything");
        for pipeline in &pipelines {
            let left = compressed(&[pipeline], &tokens).remove(0).cache.lengths().concat();
            assert!(left.iter().all(|length| *length <= 48), "{}", pipeline.identity());
        }
    }
}

#[test]
fn caches_allocate_the_bytes_of_the_pairs_they_hold() {
    const TOKENS: i64 = 400;
    let tokens: Vec<i64> = (0..TOKENS).map(|index| (index * index + 7 * index) % 64).collect();
    let ratios = [0.1, 0.3, 0.5, 0.8];
    let every = samples(1);
    let pipelines: Vec<Pipeline> = every
        .iter()
        .flat_map(|sample| ratios.map(|ratio| alone(sample.method(), Budget::from_ratio(ratio).unwrap())))
        .collect();
    let caches = compressed(&pipelines.iter().collect::<Vec<_>>(), &tokens);
    for (index, Compressed { cache, .. }) in caches.iter().enumerate() {
        let (sample, ratio) = (&every[index / ratios.len()], ratios[index % ratios.len()]);
        let mut claimed = 0;
        for layer in cache.layers() {
            for (head, length) in layer.lengths().into_iter().enumerate() {
                let (keys, values) = layer.head(head).unwrap();
                // Of keys those channels that are anything but zero.
                let used = keys.ne(0.0).any_dim(0, false).sum(Dtype::Int64).int64_value(&[]);
                claimed += length as usize * (used + values.size()[1]) as usize * size_of::<f32>();
            }
            for (part, tensor) in layer.prefix().tensors().unwrap() {
                // One element more would be beyond the allocation.
                let beyond = tensor.f_as_strided([tensor.numel() as i64 + 1], [1], None);
                assert!(beyond.is_err() || part == "indptr", "{}: {part} is part of a larger allocation", sample.name);
            }
        }
        let (bytes, name) = (cache.bytes() as f64, &sample.name);
        assert!((bytes - claimed as f64).abs() <= 0.02 * claimed as f64, "{name} at {ratio}: {bytes} for {claimed}");
        if let (true, Some(_)) = (sample.given, sample.scorer()) {
            let full = (GEOMETRY.layers as i64 * GEOMETRY.kv_heads * TOKENS * 2 * GEOMETRY.head_dim) as f64 * 4.0;
            assert!((bytes / full - (1.0 - ratio)).abs() <= 0.02, "{name} at {ratio}: {bytes} of {full}");
        }
    }
}

#[test]
fn windows_and_sinks_survive_ties() {
    let rotary = rotary();
    let view = Layer::new(1, 1, 40, 0.0, Dtype::Float).view(&rotary);
    let last =
        [("snapkv", 4), ("pyramidkv", 4), ("nacl", 4), ("scissorhands", 2), ("tova", 1), ("compactor", 1), ("h2o", 10)];
    let first = ["expected_attention", "streaming_llm", "cap", "cur", "lagkv", "compactor"];
    for (name, window) in last {
        for head in lists(name, press_called(name).as_ref(), &view, half()) {
            assert!((40 - window..40).all(|index| head.contains(&index)), "{name}: the window is not in {head:?}");
        }
    }
    for name in first {
        for head in lists(name, press_called(name).as_ref(), &view, half()) {
            assert!((0..2).all(|index| head.contains(&index)), "{name}: the sinks are not in {head:?}");
        }
    }
}

#[test]
fn contexts_shorter_than_window_or_sinks_are_refused_with_the_numbers() {
    let rotary = rotary();
    let reserved = [
        ("snapkv", 4),
        ("pyramidkv", 4),
        ("nacl", 4),
        ("expected_attention", 2),
        ("streaming_llm", 2),
        ("cap", 2),
        ("scissorhands", 2),
    ];
    for (name, reserved) in reserved {
        let error = press_called(name).select(&view(1, reserved, &rotary), half()).unwrap_err();
        assert!(error.to_string().contains(&format!("the context has {reserved} tokens")), "{name}: {error}");
    }
}

#[test]
fn a_chain_that_means_nothing_is_refused() {
    let presses = layered(3);
    let head_wise = presses.iter().find(|(_, press)| press.head_wise()).unwrap();
    let stage = || Stage { method: head_wise.0.method(), budgets: vec![half(); GEOMETRY.layers] };
    let refused = Pipeline::new(vec![stage(), stage()], GEOMETRY.layers).err().unwrap().to_string();
    assert!(refused.contains(&head_wise.1.identity()) && refused.contains("cannot follow it"), "{refused}");
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
        view.window_attention(1).err(),
        view.attention_sums().err(),
        view.output_projection().err(),
    ] {
        assert!(error.unwrap().to_string().contains("do not declare"));
    }
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
    let pipeline = |press: Arc<dyn Press>| alone(Method::Layer(press), half());
    let knorm = press_called("knorm");
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
