//! What presses change of the entries they keep (merged values, removed key channels, moved keys), and per-layer
//! lengths: a compressed cache attends as dense attention over the edited, masked keys and values does.

use pressroom::cache::LayerCache;
use pressroom::hooks::AttentionHook;
use pressroom::model::{Llama, Rotary};
use pressroom::pipeline::{ContextTokens, Session, compress};
use pressroom::press::{Budget, Needs, Pipeline, PromptParts, Selection};
use pressroom::spec::Spec;
use pressroom::view::{Geometry, LayerView};
use tch::{Device, Kind, Tensor};

use crate::pipeline::step_logits;
use crate::support::{tiny, values};

/// Token ids without a pattern that a press could follow.
fn tokens_of(length: i64) -> Vec<i64> {
    (0..length).map(|index| (index * index + 7 * index) % 64).collect()
}

/// A pipeline from its TOML.
fn pipeline(toml: &str) -> Pipeline {
    let registry = pressroom_presses::registry().unwrap();
    let presses = Spec::parse_pipeline(&format!("[[press]]\n{toml}"), "test.toml", &registry);
    let presses = presses.unwrap_or_else(|error| panic!("{error}"));
    pressroom::plan::sessions(&presses, &[], 3).unwrap().remove(0).pipeline
}

/// What a pipeline decided of each layer, and the full keys and values.
struct Recorder(Pipeline, Vec<(Selection, Tensor, Tensor)>);

impl AttentionHook for Recorder {
    fn needs(&self, _: usize) -> Option<Needs> {
        Some(self.0.needs())
    }

    fn on_layer(&mut self, view: &LayerView<'_>) -> pressroom::Result<()> {
        self.1.push((self.0.select(view)?, view.keys().shallow_clone(), view.values().shallow_clone()));
        Ok(())
    }
}

/// Attention of `queries`, `[group, n, head_dim]`, over the entries of one head that are kept, as they were changed, and
/// causally over what was appended: the plain softmax over all tokens, those evicted masked.
fn masked(queries: &Tensor, head: i64, layer: &(Selection, Tensor, Tensor), tail: &Tensor, rotary: &Rotary) -> Tensor {
    let (selection, keys, values) = layer;
    let (mut keys, mut values) = (keys.get(0).get(head), values.get(0).get(head));
    let tokens = keys.size()[0];
    let own = selection.of_head(head).unwrap();
    let kept = Tensor::from_slice(&own.to_lists(1, tokens).unwrap()[0]);
    let edits = own.edits();
    if let Some(moved) = &edits.positions {
        // From the keys before the embedding, not by turning those after it further.
        let plain = rotary.unrotate(&keys, &Tensor::arange(tokens, (Kind::Int64, Device::Cpu)), tokens).unwrap();
        let (cos, sin) = rotary.tables(&moved.flatten(0, 2), Kind::Float).unwrap();
        keys = keys.index_copy(0, &kept, &Rotary::rotate(&plain.index_select(0, &kept), &cos, &sin).unwrap());
    }
    if let Some(channels) = &edits.channels {
        let mask =
            Tensor::zeros([keys.size()[1]], (Kind::Float, Device::Cpu)).index_fill(0, &channels.flatten(0, 2), 1.0);
        keys *= mask;
    }
    if let Some(edited) = &edits.values {
        values = values.index_copy(0, &kept, &edited.flatten(0, 2));
    }
    let evicted = Tensor::ones([tokens], (Kind::Bool, Device::Cpu)).index_fill(0, &kept, 0);
    let n = queries.size()[1];
    let future = Tensor::ones([n, n], (Kind::Bool, Device::Cpu)).triu(1);
    let hidden = Tensor::cat(&[evicted.expand([n, tokens], false), future], 1);
    let (keys, values) = (Tensor::cat(&[keys, tail.get(0)], 0), Tensor::cat(&[values, tail.get(1)], 0));
    let logits = queries.matmul(&keys.transpose(0, 1)) / (keys.size()[1] as f64).sqrt();
    logits.masked_fill(&hidden, f64::NEG_INFINITY).softmax(-1, Kind::Float).matmul(&values)
}

/// Cache and decisions of a pipeline, from one prefill.
fn compressed(model: &Llama, toml: &str, tokens: &[i64]) -> (Vec<LayerCache>, Vec<(Selection, Tensor, Tensor)>) {
    let (mut session, mut recorder) = (Session::new(pipeline(toml)), Recorder(pipeline(toml), Vec::new()));
    let outcomes = model.prefill(tokens, 0, &mut [&mut session, &mut recorder]).unwrap();
    outcomes.into_iter().for_each(|outcome| outcome.unwrap_or_else(|error| panic!("{toml}: {error}")));
    let cache = session.finish(3).unwrap().cache;
    let layers = cache.layers().iter().map(|layer| layer.select(&Selection::all()).unwrap()).collect();
    (layers, recorder.1)
}

#[test]
fn edited_caches_attend_as_masked_dense_attention_does() {
    let model = tiny();
    let Geometry { kv_heads, heads, head_dim, .. } = model.geometry();
    let context = tokens_of(40);
    for toml in [
        "name = 'knorm'\ncompression_ratio = [0.25, 0.5, 0.75]",
        "name = 'simlayerkv'\nlazy_threshold = 0.3\nn_recent = 8",
        "name = 'merging'\npress.name = 'knorm'\ncompression_ratio = 0.5",
        "name = 'think'\nkey_channel_compression_ratio = 0.5",
        "name = 'key_rerotation'\npress.name = 'snapkv'\npress.window_size = 4\ncompression_ratio = [0.5, 0.25, 0.75]",
        "chain = [{ name = 'snapkv', window_size = 4, compression_ratio = 0.5 }, { name = 'think', key_channel_compression_ratio = 0.5 }]",
        "chain = [{ name = 'adakv', press.name = 'knorm', compression_ratio = 0.5 }, { name = 'think', key_channel_compression_ratio = 0.5 }]",
        "chain = [{ name = 'adakv', press.name = 'knorm', compression_ratio = 0.5 }, { name = 'merging', press.name = 'snapkv', press.window_size = 4, compression_ratio = 0.5 }]",
        "chain = [{ name = 'adakv', press.name = 'knorm', alpha_safeguard = 0, compression_ratio = 0.9 }, { name = 'key_rerotation', press.name = 'knorm', compression_ratio = 0.5 }]",
        "chain = [{ name = 'merging', press.name = 'knorm', compression_ratio = 0.3 }, { name = 'think', key_channel_compression_ratio = 0.25 }, { name = 'key_rerotation', press.name = 'knorm', compression_ratio = 0.3 }]",
    ] {
        let (caches, decided) = compressed(&model, toml, &context);
        let mut changed = false;
        for (index, (mut cache, layer)) in caches.into_iter().zip(&decided).enumerate() {
            let (queries, tail) = (values(1, &[heads, 3, head_dim]), values(2, &[2, kv_heads, 3, head_dim]));
            cache.append(&tail.get(0), &tail.get(1)).unwrap();
            let ours = cache.attend(&queries, 1.0 / (head_dim as f64).sqrt()).unwrap();
            let group = heads / kv_heads;
            let due: Vec<Tensor> = (0..kv_heads)
                .map(|head| {
                    masked(&queries.narrow(0, head * group, group), head, layer, &tail.select(1, head), model.rotary())
                })
                .collect();
            let off = f64::try_from((ours - Tensor::cat(&due, 0)).abs().max()).unwrap();
            assert!(off < 1e-4, "{toml}\nlayer {index}: off by {off}");
            changed |= !layer.0.edits().is_empty() || cache.lengths().iter().any(|length| *length < 43);
        }
        assert!(changed, "{toml} changed nothing");
    }
}

#[test]
fn later_positions_count_from_what_is_kept_where_keys_move() {
    let (model, context) = (tiny(), tokens_of(24));
    let compressed = |toml: &str, context: &[i64]| {
        let encode = |_: &str| Ok(vec![]);
        let prompt = PromptParts { prefix_tokens: 0, suffix: &[], encode: &encode };
        let context = ContextTokens { tokens: context, question_tokens: 3, prompt, seed: 0 };
        let pipelines = if toml.is_empty() { Pipeline::default() } else { pipeline(toml) };
        compress(&model, context, &[&pipelines]).unwrap().remove(0).unwrap().cache
    };
    // What keeps the first half is the cache of the first half.
    let first = "name = 'key_rerotation'\npress = { name = 'streaming_llm', n_sink = 12 }\ncompression_ratio = 0.5";
    let (ours, due) = (compressed(first, &context), compressed("", &context[..12]));
    assert_eq!((ours.position(), ours.lengths()), (12, due.lengths()));
    let off = (step_logits(&model, &ours, &[5, 9, 1]) - step_logits(&model, &due, &[5, 9, 1])).abs().max();
    assert!(f64::try_from(off).unwrap() < 1e-4);
    // What keeps the last half holds, in the layer that attention has not reached yet, the keys of the last half.
    let last = "name = 'key_rerotation'\npress = { name = 'streaming_llm', n_sink = 0 }\ncompression_ratio = 0.5";
    let (ours, due) = (compressed(last, &context), compressed("", &context[12..]));
    for head in 0..2 {
        let (keys, due) = (ours.layers()[0].head(head).unwrap().0, due.layers()[0].head(head).unwrap().0);
        assert!(keys.allclose(&due, 1e-5, 1e-5, false));
    }
    // Without moving, and where a layer keeps all, positions go on from the end of the context.
    assert_eq!(compressed("name = 'streaming_llm'\ncompression_ratio = 0.5", &context).position(), 24);
    assert_eq!(compressed("name = 'finch'\nrerotate_keys = false\ncompression_ratio = 0.5", &context).position(), 24);
    assert_eq!(compressed("name = 'finch'\ncompression_ratio = 0.5", &context).position(), 12);
    let layers = "name = 'key_rerotation'\npress.name = 'knorm'\ncompression_ratio = ";
    assert_eq!(compressed(&format!("{layers}[0.5, 0.25, 0.75]"), &context).position(), 18);
    assert_eq!(compressed(&format!("{layers}[0.0, 0.25, 0.75]"), &context).position(), 24);
}

/// Chains that kvpress cannot run, against the same done by hand on lists.
#[test]
fn chains_see_what_is_left_of_keys_and_of_attention() {
    struct Sums(Vec<(Tensor, Tensor)>);
    impl AttentionHook for Sums {
        fn needs(&self, _: usize) -> Option<Needs> {
            Some(Needs { attention_sums: true, ..Needs::KEYS_AND_VALUES })
        }
        fn on_layer(&mut self, view: &LayerView<'_>) -> pressroom::Result<()> {
            self.0.push((view.keys().get(0), view.attention_sums()?.get(0)));
            Ok(())
        }
    }
    let (model, context) = (tiny(), tokens_of(40));
    let budget = Budget::from_ratio(0.5).unwrap();
    let mut sums = Sums(Vec::new());
    model.prefill(&context, 0, &mut [&mut sums]).unwrap().remove(0).unwrap();
    let best = |scores: &[f64], among: &[i64]| {
        let mut order = among.to_vec();
        order.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
        order.truncate(budget.kept(among.len() as i64) as usize);
        order.sort_unstable();
        order
    };
    let lists = |toml: &str| {
        let (_, decided) = compressed(&model, toml, &context);
        decided.iter().map(|(selection, ..)| selection.to_lists(2, 40).unwrap()).collect::<Vec<_>>()
    };
    let (knorm, adakv) = (
        "{ name = 'knorm', compression_ratio = 0.5 }",
        "{ name = 'adakv', press.name = 'knorm', compression_ratio = 0.5 }",
    );
    let observed = lists(&format!("chain = [{knorm}, {{ name = 'observed_attention', compression_ratio = 0.5 }}]"));
    let (shared, left) = (lists(&format!("chain = [{adakv}]")), lists(&format!("chain = [{adakv}, {knorm}]")));
    for (layer, (keys, received)) in sums.0.iter().enumerate() {
        for head in 0..2i64 {
            let norms =
                Vec::<f64>::try_from(-keys.get(head).norm_scalaropt_dim(2.0, [1i64].as_slice(), false)).unwrap();
            let received = received.narrow(0, head * 2, 2).mean_dim([0i64].as_slice(), false, Kind::Float);
            // The mean over the queries that see a token.
            let seen = Tensor::arange_start_step(40, 0, -1, (Kind::Float, Device::Cpu));
            let received = Vec::<f64>::try_from(received / seen).unwrap();
            let all: Vec<i64> = (0..40).collect();
            assert_eq!(
                observed[layer][head as usize],
                best(&received, &best(&norms, &all)),
                "layer {layer} head {head}"
            );
            assert_eq!(
                left[layer][head as usize],
                best(&norms, &shared[layer][head as usize]),
                "layer {layer} head {head}"
            );
        }
    }
    let windowed =
        lists(&format!("chain = [{adakv}, {{ name = 'snapkv', window_size = 4, compression_ratio = 0.5 }}]"));
    for (kept, before) in windowed.concat().iter().zip(shared.concat()) {
        assert_eq!(kept.len() as i64, budget.kept(before.len() as i64));
        let window: Vec<i64> = before.iter().copied().filter(|token| *token >= 36).collect();
        assert!(kept.iter().all(|token| before.contains(token)));
        assert!(window.iter().take(kept.len()).all(|token| kept.contains(token)), "{kept:?} of {before:?}");
    }
}
