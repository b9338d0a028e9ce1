//! Quantized caches: attention over what they hold, how far that is from what was stored, and what they allocate.

use pressroom::cache::{Bits, Format, KeySteps, KvCache, LayerCache, Quantization};
use pressroom::model::{LlamaConfig, Rotary, Step};
use pressroom::press::{Budget, Built, Edits, Params, Pipeline, Selection, Stage, StepHook, Value};
use pressroom::view::{Geometry, LayerView, Materialised};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::pipeline::step_logits;
use crate::support::{tiny, values};
use crate::{contexts, decoding};

fn layouts() -> impl Strategy<Value = Quantization> {
    let bits = prop_oneof![Just(Bits::Two), Just(Bits::Four), Just(Bits::Eight)];
    let keys = prop_oneof![Just(KeySteps::PerChannel), Just(KeySteps::PerToken)];
    (bits, prop_oneof![Just(16i64), Just(32)], keys, any::<bool>(), 0i64..40).prop_map(
        |(bits, group, keys, hadamard, residual)| Quantization {
            format: Format { bits, group, keys, hadamard },
            residual,
        },
    )
}

/// Two KV heads of 8 channels that keep the first so many of 80 tokens, and of their keys some channels.
fn layer(seed: u64, lengths: [i64; 2], channels: Option<[i64; 3]>) -> LayerCache {
    let mask: Vec<bool> = lengths.iter().flat_map(|&kept| (0..80).map(move |token| token < kept)).collect();
    let kept = Selection::from_mask(&Tensor::from_slice(&mask).view([1, 2, 80])).unwrap();
    // Other channels in the second head.
    let channels =
        channels.map(|list| Tensor::from_slice(&[list, list.map(|channel| channel + 1)].concat()).view([1, 2, 3]));
    let selection = kept.with_edits(Edits { channels, ..Edits::default() });
    let draw = |part: u64| values(seed + part, &[1, 2, 80, 8]);
    LayerCache::compress(&draw(0), &draw(1), &selection).unwrap().remove(0)
}

fn append(cache: &mut LayerCache, seed: u64, tokens: i64) {
    let new = |part: u64| values(seed + part, &[2, tokens, 8]);
    cache.append(&new(0), &new(1)).unwrap();
}

/// Attention of fixed queries over the cache.
fn probe(cache: &LayerCache) -> Tensor {
    cache.attend(&values(99, &[4, 1, 8]), 0.3).unwrap()
}

/// Attention over what the heads hold, naively, in double precision.
fn naive(cache: &LayerCache) -> Tensor {
    let query = values(99, &[4, 1, 8]).to_kind(Kind::Double);
    let of_head = |head: usize| {
        let (keys, values) = cache.head(head).unwrap();
        let logits = query.narrow(0, head as i64 * 2, 2).matmul(&keys.to_kind(Kind::Double).transpose(0, 1)) * 0.3;
        logits.softmax(-1, Kind::Double).matmul(&values.to_kind(Kind::Double))
    };
    Tensor::cat(&[of_head(0), of_head(1)], 0)
}

fn largest(tensor: &Tensor) -> f64 {
    if tensor.numel() == 0 { 0.0 } else { tensor.abs().max().double_value(&[]) }
}

/// Half a step of numbers in `[-1, 1)`, of which a rotation spreads up to `√8` over a channel, and what float16 makes of
/// step and zero. A rotation back adds up the errors of 8 channels by `1 / √8` each.
fn half_step(layout: Quantization) -> f64 {
    let (most, sums) = if layout.format.hadamard { (8f64.sqrt(), 8f64.sqrt()) } else { (1.0, 1.0) };
    (most / f64::from(layout.format.bits.largest()) + 3.0 * most / 2048.0) * sums
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_attends_over_what_it_holds_which_is_within_half_a_step(
        seed in 0u64..1000, lengths in [0i64..80, 1i64..80], extra in 1i64..4, layout in layouts(), pruned in any::<bool>(),
    ) {
        let mut plain = layer(seed, lengths, pruned.then_some([0, 3, 6]));
        append(&mut plain, seed + 11, extra);
        let quantized = plain.quantized(layout).unwrap();
        prop_assert_eq!(quantized.lengths(), plain.lengths());
        let prefix = if pruned { "pruned-quantized" } else { "quantized" };
        prop_assert_eq!(quantized.prefix().name(), prefix);
        prop_assert_eq!(quantized.prefix().quantization(), Some(layout));

        // Float32 over at most 83 tokens of logits below 8 * 0.3, against double precision.
        prop_assert!(largest(&(probe(&quantized) - naive(&quantized))) < 1e-5);

        for (head, length) in lengths.iter().enumerate() {
            let ((keys, vals), (full_keys, full_vals)) = (quantized.head(head).unwrap(), plain.head(head).unwrap());
            for (held, full) in [(&keys, &full_keys), (&vals, &full_vals)] {
                let off = largest(&(held - full));
                prop_assert!(off <= half_step(layout), "off by {} of {}", off, half_step(layout));
                let exact = layout.residual.min(*length) + extra;
                let last = |rows: &Tensor| rows.narrow(0, rows.size()[0] - exact, exact);
                prop_assert_eq!(last(held), last(full));
            }
        }
    }

    #[test]
    fn forks_files_and_appended_tokens_leave_it_as_it_is(
        seed in 0u64..1000, lengths in [1i64..80, 1i64..80], extra in 1i64..4, layout in layouts(), pruned in any::<bool>(),
    ) {
        let plain = layer(seed, lengths, pruned.then_some([1, 2, 5]));
        let mut cache = KvCache::from_layers(vec![plain.quantized(layout).unwrap()], 80);
        let mut fork = cache.fork().unwrap();
        append(cache.layer_mut(0).unwrap(), seed + 5, extra);
        append(fork.layer_mut(0).unwrap(), seed + 7, extra + 1);
        let [own, other] = [&cache, &fork].map(|cache| &cache.layers()[0]);
        prop_assert!(largest(&(probe(own) - naive(own))) < 1e-5);
        prop_assert!(largest(&(probe(other) - naive(other))) < 1e-5);
        prop_assert_eq!(own.head(0).unwrap().0.narrow(0, 0, lengths[0]), other.head(0).unwrap().0.narrow(0, 0, lengths[0]));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.safetensors");
        cache.save(&path).unwrap();
        let read = KvCache::load(&path, Device::Cpu).unwrap();
        prop_assert_eq!(read.layers()[0].prefix().quantization(), Some(layout));
        prop_assert_eq!(read.layers()[0].prefix().bytes(), own.prefix().bytes());
        prop_assert_eq!(probe(&read.layers()[0]), probe(own));
    }

    #[test]
    fn what_is_selected_of_it_is_quantized_again(seed in 0u64..1000, lengths in [40i64..80, 40i64..80], layout in layouts()) {
        let mut cache = layer(seed, lengths, None).quantized(layout).unwrap();
        append(&mut cache, seed + 3, 2);
        let lists: Vec<Vec<i64>> = cache.lengths().iter().map(|&length| (0..length).filter(|entry| entry % 3 > 0).collect()).collect();
        let selected = cache.select(&Selection::from_lists(&lists, Device::Cpu).unwrap()).unwrap();
        prop_assert_eq!(selected.prefix().quantization(), Some(layout));
        prop_assert!(largest(&(probe(&selected) - naive(&selected))) < 1e-5);
        for (head, list) in lists.iter().enumerate() {
            let before = cache.head(head).unwrap().0.index_select(0, &Tensor::from_slice(list));
            // What was held was up to half a step beyond the numbers themselves.
            let off = largest(&(selected.head(head).unwrap().0 - before));
            prop_assert!(off <= half_step(layout) * (1.0 + half_step(layout)), "off by {}", off);
        }
    }
}

/// Tokens of SmolLM2-135M's longest context. Of a shorter one the last 128 tokens, which stay in bf16, are a larger part.
const TOKENS: i64 = 8192;

/// Such a context in a layer of SmolLM2-135M's shape, in bf16: keys of some tokens are larger than of others,
/// so that heads keep different numbers.
fn smollm2_layer() -> [Tensor; 3] {
    let tokens = TOKENS;
    let sizes =
        Tensor::stack(&[1.0, 1.5, 2.0].map(|power| values(5, &[tokens, 1]).abs().pow_tensor_scalar(power) + 0.5), 0);
    let keys = values(1, &[3, tokens, 64]) * sizes;
    let shapes = [(2, 3), (3, 9)].map(|(seed, heads)| values(seed, &[1, heads, tokens, 64]).to_kind(Kind::BFloat16));
    let [vals, queries] = shapes;
    [keys.unsqueeze(0).to_kind(Kind::BFloat16), vals, queries]
}

fn built(name: &str, params: &[(&str, f64)], inner: Vec<Built>) -> Built {
    let params: Params = params.iter().map(|(name, value)| ((*name).to_owned(), Value::Number(*value))).collect();
    pressroom_presses::registry().unwrap().find(name).unwrap().build(&params, inner).unwrap()
}

/// Bytes of the layer after `presses` as they are stored in four bits, of those of all of it in bf16.
fn share_in_four_bits(presses: Vec<(Built, f64)>) -> f64 {
    let geometry = Geometry { layers: 1, heads: 9, kv_heads: 3, head_dim: 64 };
    let [keys, vals, queries] = smollm2_layer();
    let parts = Materialised { queries: Some(queries), ..Materialised::default() };
    let config = r#"{"model_type": "llama", "vocab_size": 8, "hidden_size": 576, "intermediate_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 9, "num_key_value_heads": 3}"#;
    let rotary = Rotary::new(&LlamaConfig::parse(config).unwrap(), Device::Cpu).unwrap();
    let view = LayerView::new(0, geometry, keys, vals, parts, &rotary).unwrap();
    let stages = presses
        .into_iter()
        .map(|(built, ratio)| Stage { method: built.into_method(), budgets: vec![Budget::from_ratio(ratio).unwrap()] });
    let pipeline = Pipeline::new(stages.collect(), 1).unwrap().stored(Some(Quantization::of(Bits::Four)));
    let left = view.compress(&pipeline.select(&view).unwrap()).unwrap().remove(0);
    let full = view.compress(&Selection::all()).unwrap()[0].bytes();
    assert_eq!(full as i64, 2 * 3 * TOKENS * 64 * 2);
    pipeline.store(left).unwrap().bytes() as f64 / full as f64
}

fn adakv() -> Built {
    built("adakv", &[], vec![built("knorm", &[], vec![])])
}

#[test]
fn four_bits_take_less_than_a_third_of_bf16() {
    let share = share_in_four_bits(vec![]);
    assert!(share < 0.32, "{share}");
}

#[test]
fn half_the_pairs_in_four_bits_take_a_sixth() {
    let share = share_in_four_bits(vec![(adakv(), 0.5)]);
    assert!(share < 0.17, "{share}");
}

#[test]
fn half_the_pairs_with_half_the_key_channels_in_four_bits_take_an_eighth() {
    let think = built("think", &[("key_channel_compression_ratio", 0.5)], vec![]);
    let share = share_in_four_bits(vec![(adakv(), 0.5), (think, 0.0)]);
    assert!(share < 0.14, "{share}");
}

/// Presses decide layer by layer, over a whole context and while answers grow: all are stored as their pipeline says.
#[test]
fn every_kind_of_press_is_stored_as_its_pipeline_says() {
    let eight = Quantization::of(Bits::Eight);
    let layout = Quantization { format: Format { group: 16, ..eight.format }, residual: 4 };
    let (model, registry) = (tiny(), pressroom_presses::registry().unwrap());
    let tokens: Vec<i64> = (0..90).map(|index| index * 7 % 60).collect();
    let mut pipelines = decoding::pipelines();
    let of_context = contexts::all(&registry).into_iter();
    pipelines.extend(of_context.map(|(name, press)| (name, contexts::alone(&model, press, contexts::same(0.25)))));
    pipelines.push(("nothing evicted".into(), Pipeline::default()));
    pipelines.push(("adakv".into(), contexts::alone(&model, adakv(), contexts::same(0.25))));
    for (name, plain) in pipelines {
        let stored = plain.clone().stored(Some(layout));
        let [plain, quantized] =
            [plain, stored].map(|pipeline| contexts::compressed(&model, &tokens, &[&pipeline]).remove(0));
        assert_eq!(quantized.decisions, plain.decisions, "{name}");
        assert_eq!(quantized.cache.lengths(), plain.cache.lengths(), "{name}");
        // A head that keeps less than a group beside its last tokens holds nothing to quantize.
        let long = plain.cache.lengths().iter().flatten().all(|&length| length >= 16 + 4);
        assert!(!long || quantized.cache.bytes() < plain.cache.bytes(), "{name}");
        let is_stored =
            |cache: &KvCache| cache.layers().iter().all(|layer| layer.prefix().quantization() == Some(layout));
        assert!(is_stored(&quantized.cache), "{name}");
        let [ours, theirs] = [&quantized, &plain].map(|compressed| step_logits(&model, &compressed.cache, &[3, 5]));
        // restorekv's own tokens, here of random adapters, are larger than others and widen the steps of their groups.
        let allowed = if name.starts_with("restorekv") { 0.1 } else { 0.02 };
        assert!(largest(&(&ours - &theirs)) < allowed * largest(&theirs), "{name}");

        // What compresses while an answer grows leaves it stored like that.
        let (mut cache, mut hook) = (quantized.cache.fork().unwrap(), quantized.start());
        for token in 0..12 {
            let hook = hook.as_mut().map(|hook| hook.as_mut() as &mut dyn StepHook);
            drop(model.forward(&mut [Step { tokens: &[token], cache: &mut cache, hook }]).unwrap());
        }
        assert!(is_stored(&cache), "{name}");
    }
}
