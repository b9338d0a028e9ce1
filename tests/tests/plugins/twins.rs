//! Plugins that do what a built-in press does: the same kept sets, in every place where a press can stand.

use std::path::Path;
use std::sync::Arc;

use pressroom::press::{Budget, Built, Params, Pipeline, Press, Registry, Stage, Value};
use pressroom::view::{Geometry, LayerView, Materialised};
use proptest::prelude::*;
use tch::{Kind as Dtype, Tensor};

use crate::layers::{GEOMETRY, Layer, rotary, values};
use crate::support::{compile_text, examples, registry, twins_in_c};

/// Each built-in press with its twins in Rust and in C.
const TWINS: [(&str, [&str; 2]); 2] =
    [("knorm", ["plugin_knorm", "c_knorm"]), ("snapkv", ["plugin_snapkv", "c_snapkv"])];

fn params(name: &str) -> Params {
    let small = [("window_size", Value::Integer(4)), ("kernel_size", Value::Integer(3))];
    if name.contains("snapkv") { small.map(|(name, value)| (name.to_owned(), value)).into() } else { Params::new() }
}

fn scorer(registry: &Registry, name: &str) -> Built {
    registry.find(name).unwrap().build(&params(name), Vec::new()).unwrap()
}

fn press(registry: &Registry, name: &str) -> Arc<dyn Press> {
    scorer(registry, name).into_press().unwrap()
}

/// `name` inside adakv.
fn shared(registry: &Registry, name: &str) -> Arc<dyn Press> {
    let adakv = registry.find("adakv").unwrap();
    adakv.build(&Params::new(), vec![scorer(registry, name)]).unwrap().into_press().unwrap()
}

fn kept(press: &dyn Press, view: &LayerView<'_>, ratio: f64) -> Vec<Vec<i64>> {
    let selection = press.select(view, Budget::from_ratio(ratio).unwrap()).unwrap();
    selection.check(view.batch(), GEOMETRY.kv_heads, view.tokens()).unwrap();
    selection.to_lists((view.batch() * GEOMETRY.kv_heads) as usize, view.tokens()).unwrap()
}

fn chain(registry: &Registry, last: &str) -> Pipeline {
    let stage = |name: &str, ratio| Stage {
        method: scorer(registry, name).into_method(),
        budgets: vec![Budget::from_ratio(ratio).unwrap()],
    };
    Pipeline::new(vec![stage("streaming_llm", 0.3), stage(last, 0.5)], 1).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn twins_keep_what_the_built_in_press_keeps(seed in 0u64..500, batch in 1i64..3, tokens in 8i64..90, ratio in 0.05f64..0.95) {
        let registry = registry(&[&examples(), &twins_in_c("alike")]);
        let rotary = rotary();
        for dtype in [Dtype::Float, Dtype::BFloat16, Dtype::Half] {
            let view = Layer::new(seed, batch, tokens, 1.0, dtype).view(&rotary);
            for (name, twins) in TWINS {
                for twin in twins {
                    let same = |make: fn(&Registry, &str) -> Arc<dyn Press>| {
                        let (own, other) = (make(&registry, name), make(&registry, twin));
                        (kept(own.as_ref(), &view, ratio), kept(other.as_ref(), &view, ratio))
                    };
                    let (own, other) = same(press);
                    prop_assert_eq!(own, other, "{} in {:?}", twin, dtype);
                    let (own, other) = same(shared);
                    prop_assert_eq!(own, other, "adakv({}) in {:?}", twin, dtype);
                }
            }
        }
    }

    #[test]
    fn twins_follow_other_presses_in_chains(seed in 0u64..500, tokens in 12i64..90) {
        let registry = registry(&[&examples(), &twins_in_c("chained")]);
        let rotary = rotary();
        let view = Layer::new(seed, 1, tokens, 1.0, Dtype::Float).view(&rotary);
        for (name, twins) in TWINS {
            let lists = |name| chain(&registry, name).select(&view).unwrap().to_lists(2, tokens).unwrap();
            for twin in twins {
                prop_assert_eq!(lists(name), lists(twin), "{}", twin);
            }
        }
    }

    #[test]
    fn a_full_selection_shares_the_budget_among_heads(seed in 0u64..500, tokens in 18i64..120, ratio in 0.05f64..0.95) {
        let registry = registry(&[&examples()]);
        let rotary = rotary();
        let view = Layer::new(seed, 1, tokens, 1.0, Dtype::BFloat16).view(&rotary);
        let press = press(&registry, "entropy_heads");
        prop_assert!(press.head_wise());
        let lists = kept(press.as_ref(), &view, ratio);
        let due = Budget::from_ratio(ratio).unwrap().kept(tokens) * GEOMETRY.kv_heads;
        prop_assert_eq!(lists.iter().map(Vec::len).sum::<usize>() as i64, due);
    }
}

/// At a model's first layer, keys of a repeated token have one norm up to rounding: so have these of seven tokens.
#[test]
fn twins_break_ties_as_the_built_in_press_does() {
    let registry = registry(&[&examples(), &twins_in_c("ties")]);
    let rotary = rotary();
    for head_dim in [16, 64, 80, 128] {
        let tokens: Vec<Tensor> =
            (0..350).map(|token| values(token as u64 % 7, &[1, 2, 1, head_dim]).roll(token, 3)).collect();
        let keys = Tensor::cat(&tokens, 2);
        let geometry = Geometry { head_dim, ..GEOMETRY };
        for dtype in [Dtype::Float, Dtype::BFloat16, Dtype::Half] {
            // Heads and tokens swapped in memory too, as a model's projections leave them.
            let keys = keys.to_kind(dtype);
            for keys in [keys.transpose(1, 2).contiguous().transpose(1, 2), keys] {
                let parts = Materialised::default();
                let view = LayerView::new(0, geometry, keys.shallow_clone(), keys, parts, &rotary).unwrap();
                let scores = |name| scorer(&registry, name).into_scorer().unwrap().score(&view, Budget::ALL).unwrap();
                let (name, twins) = TWINS[0];
                for twin in twins {
                    assert!(scores(twin).equal(&scores(name)), "{twin} with {head_dim} channels in {dtype:?}");
                }
            }
        }
    }
}

#[test]
fn the_identity_names_the_build_and_the_parameters() {
    let registry = registry(&[&examples()]);
    let identity = press(&registry, "plugin_snapkv").identity();
    let rest = identity.strip_prefix("plugin_snapkv@").unwrap();
    let (build, params) = rest.split_at(8);
    assert!(build.bytes().all(|byte| byte.is_ascii_hexdigit()), "{identity}");
    assert_eq!(params, "(window_size=4, kernel_size=3)");
}

#[test]
fn bad_parameters_are_refused_as_those_of_built_in_presses() {
    let registry = registry(&[&examples()]);
    let rkv = registry.find("rkv").unwrap();
    let build =
        |name: &str, value| rkv.build(&Params::from([(name.to_owned(), value)]), Vec::new()).err().unwrap().to_string();
    assert_eq!(build("lambda", Value::Number(1.5)), "press `rkv`: `lambda` is 1.5, allowed is 0 to 1");
    assert_eq!(build("windows", Value::Integer(1)), "press `rkv` has no parameter `windows`");
    assert_eq!(build("kernel_size", Value::Integer(4)), "kernel_size is odd, so that the pooling has a middle");
}

#[test]
fn an_error_of_a_plugin_is_told_in_its_words() {
    let registry = registry(&[&examples()]);
    let rotary = rotary();
    let error = press(&registry, "plugin_snapkv")
        .select(&Layer::new(1, 1, 4, 1.0, Dtype::Float).view(&rotary), Budget::from_ratio(0.5).unwrap());
    assert!(error.unwrap_err().to_string().starts_with("the context has 4 tokens and window_size = 4"));
}

#[test]
fn keys_and_values_are_not_copied_for_a_plugin() {
    let source = std::fs::read_to_string(crate::support::root().join("plugins/examples/c/twins.c")).unwrap();
    let telling = source.replace(
        "    float *out = scores->array.data;\n    for",
        "    float *out = scores->array.data;\n    char text[99];\n    snprintf(text, sizeof text, \"%p %p\", \
         view->keys->array.data, view->values->array.data);\n    if (text[0]) return failed(call, text);\n    for",
    );
    let registry = registry(&[Path::new(&compile_text("telling", &telling))]);
    let rotary = rotary();
    for dtype in [Dtype::Float, Dtype::BFloat16] {
        let view = Layer::new(1, 1, 20, 1.0, dtype).view(&rotary);
        let error = press(&registry, "c_knorm").select(&view, Budget::from_ratio(0.5).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), format!("{:?} {:?}", view.keys().data_ptr(), view.values().data_ptr()));
    }
}
