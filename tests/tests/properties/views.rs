//! Views and selections: parts of a view, edits of what is kept, and how decisions compose.

use pressroom::cache::{KvCache, LayerCache};
use pressroom::hooks::AttentionHook;
use pressroom::press::{Edits, Kept, Needs, Selection, Span};
use pressroom::view::{LayerView, Materialised};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::support::{GEOMETRY, rotary, tiny, values, view};

fn mask(tokens: i64) -> impl Strategy<Value = Vec<bool>> {
    proptest::collection::vec(any::<bool>(), 2 * tokens as usize)
}

fn from_mask(mask: &[bool], tokens: i64) -> Selection {
    Selection::from_mask(&Tensor::from_slice(mask).view([1, 2, tokens])).unwrap()
}

fn uniform(lists: &[i64], kept: i64) -> Selection {
    Selection::uniform(&Tensor::from_slice(lists).view([1, 2, kept])).unwrap()
}

/// A cache of 2 KV heads as masked dense attention sees it: removed key channels are zero.
fn with_zeroed_channels(keys: &Tensor, channels: &Tensor) -> Tensor {
    let mask = Tensor::zeros([1, 2, 8], (Kind::Float, Device::Cpu)).scatter_value(2, channels, 1);
    keys * mask.unsqueeze(2)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn ragged_and_uniform_picks_are_the_listed_rows(mask in mask(7), seed in 0u64..50) {
        let data = values(seed, &[1, 2, 7, 8]);
        let selection = from_mask(&mask, 7);
        let picked = selection.kept().pick(&data).unwrap();
        let rows: Vec<Tensor> = selection.to_lists(2, 7).unwrap().iter().enumerate()
            .map(|(head, list)| data.get(0).get(head as i64).index_select(0, &Tensor::from_slice(list))).collect();
        prop_assert_eq!(picked, Tensor::cat(&rows, 0));
        let positions = Tensor::arange(7, (Kind::Int64, Device::Cpu)).view([1, 1, 7]).expand([1, 2, 7], false);
        let Kept::Ragged(ragged) = selection.kept() else { panic!() };
        prop_assert_eq!(&selection.kept().pick(&positions).unwrap(), &ragged.indices);
        let twice = uniform(&[5, 0, 2, 3, 4, 6], 3);
        let Kept::Uniform(indices) = twice.kept() else { panic!() };
        prop_assert_eq!(&twice.kept().pick(&positions).unwrap(), indices);
    }

    #[test]
    fn pruned_caches_attend_as_with_zeroed_channels(mask in mask(9), ragged in any::<bool>(), seed in 0u64..50, channels in 1usize..8) {
        prop_assume!(mask.iter().any(|&kept| kept));
        let (keys, vals) = (values(seed, &[1, 2, 9, 8]), values(seed + 1, &[1, 2, 9, 8]));
        let order = values(seed + 2, &[1, 2, 8]).argsort(-1, false).narrow(2, 0, channels as i64);
        let (order, _) = order.sort(-1, false);
        let selection = || if ragged { from_mask(&mask, 9) } else { Selection::all() };
        let edits = Edits { channels: Some(order.shallow_clone()), ..Edits::default() };
        let mut pruned = LayerCache::compress(&keys, &vals, &selection().with_edits(edits)).unwrap().remove(0);
        let mut dense = LayerCache::compress(&with_zeroed_channels(&keys, &order), &vals, &selection()).unwrap().remove(0);
        let new = values(seed + 3, &[2, 2, 8]);
        for cache in [&mut pruned, &mut dense] {
            cache.append(&new, &new).unwrap();
        }
        let query = values(seed + 4, &[4, 2, 8]);
        let off = (pruned.attend(&query, 0.35).unwrap() - dense.attend(&query, 0.35).unwrap()).abs().max();
        prop_assert!(f64::try_from(off).unwrap() < 1e-5);
        prop_assert_eq!(pruned.head(1).unwrap(), dense.head(1).unwrap());
        let pairs: i64 = pruned.prefix().lengths().iter().sum();
        let offsets = if ragged { 3 * 8 } else { 0 };
        prop_assert_eq!(pruned.prefix().bytes() as i64, pairs * (channels as i64 + 8) * 4 + 2 * channels as i64 * 8 + offsets);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.safetensors");
        KvCache::from_layers(vec![pruned], 11).save(&path).unwrap();
        let read = KvCache::load(&path, Device::Cpu).unwrap();
        prop_assert_eq!(read.layers()[0].prefix().name(), if ragged { "pruned-ragged" } else { "pruned-dense" });
        let again = (read.layers()[0].attend(&query, 0.35).unwrap() - dense.attend(&query, 0.35).unwrap()).abs().max();
        prop_assert!(f64::try_from(again).unwrap() < 1e-5);
    }

    #[test]
    fn a_slice_is_a_context_of_its_own(start in 0i64..20, length in 1i64..20, seed in 0u64..50) {
        let rotary = rotary();
        let whole = view(seed, 40, &rotary);
        let slice = whole.slice(start, length).unwrap();
        prop_assert_eq!((slice.tokens(), slice.context_tokens(), slice.context_end()), (length, length, start + length));
        prop_assert_eq!(slice.keys(), &whole.keys().narrow(2, start, length));
        prop_assert_eq!(slice.queries(Span::Last(3)).unwrap(),
            whole.queries(Span::All).unwrap().narrow(2, start + length - length.min(3), length.min(3)));
        let own = |mask: Tensor| Vec::<bool>::try_from(mask.flatten(0, -1)).unwrap();
        let first: Vec<bool> = (0..length).map(|index| index < 2).collect();
        let last: Vec<bool> = (0..length).map(|index| index >= length - 2).collect();
        prop_assert_eq!(own(slice.first(2).unwrap()), first);
        prop_assert_eq!(own(slice.last(2).unwrap()), last);
    }

    #[test]
    fn a_head_is_a_view_with_its_query_group(head in 0i64..2, seed in 0u64..50) {
        let rotary = rotary();
        let whole = view(seed, 12, &rotary);
        let left = whole.restrict(&uniform(&[0, 3, 5, 1, 2, 11], 3)).unwrap();
        let own = left.head(head).unwrap();
        prop_assert_eq!((own.geometry().heads, own.geometry().kv_heads, own.geometry().group()), (2, 1, 2));
        prop_assert_eq!(own.values(), &left.values().narrow(1, head, 1));
        prop_assert_eq!(own.queries(Span::All).unwrap(), whole.queries(Span::All).unwrap().narrow(1, 2 * head, 2));
        let positions: Vec<i64> = own.positions().unwrap().flatten(0, -1).try_into().unwrap();
        prop_assert_eq!(positions, [[0, 3, 5], [1, 2, 11]][head as usize]);
        let table = Tensor::from_slice(&[10i64, 20]);
        prop_assert_eq!(own.own_heads(&table, 0).unwrap(), Tensor::from_slice(&[10 * (head + 1)]));
    }

    #[test]
    fn rotary_embedding_can_be_undone_and_moved(seed in 0u64..50, delta in -30i64..30) {
        let rotary = rotary();
        let plain = values(seed, &[1, 2, 10, 8]);
        let positions = Tensor::arange_start(40, 50, (Kind::Int64, Device::Cpu));
        let rotate = |positions: &Tensor| {
            let (cos, sin) = rotary.tables(positions, Kind::Float).unwrap();
            pressroom::model::Rotary::rotate(&plain, &cos, &sin).unwrap()
        };
        let keys = rotate(&positions);
        let back = rotary.unrotate(&keys, &positions.view([1, 1, 10]), 50).unwrap();
        prop_assert!(f64::try_from((back - &plain).abs().max()).unwrap() < 1e-5);
        let moved = rotary.shift(&keys, &Tensor::full([1, 2, 10], delta, (Kind::Int64, Device::Cpu)), 50).unwrap();
        prop_assert!(f64::try_from((moved - rotate(&(positions + delta))).abs().max()).unwrap() < 1e-5);
    }
}

/// Sees the attention of a layer as a matrix and as sums.
struct Sums(Vec<(Tensor, Tensor)>);

impl AttentionHook for Sums {
    fn needs(&self, _layer: usize) -> Option<Needs> {
        Some(Needs { attention: Span::All, attention_sums: true, ..Needs::KEYS_AND_VALUES })
    }

    fn on_layer(&mut self, view: &LayerView<'_>) -> pressroom::Result<()> {
        let left = view.restrict(&uniform(&[0, 3, 5, 1, 2, 11], 3))?;
        for view in [view, &left] {
            self.0.push((view.attention(Span::All)?, view.attention_sums()?.shallow_clone()));
        }
        Ok(())
    }
}

#[test]
fn attention_sums_are_the_column_sums_of_the_attention_matrix() {
    let model = tiny();
    let mut hook = Sums(Vec::new());
    let tokens: Vec<i64> = (0..300).map(|index| index * 7 % 64).collect();
    model.prefill(&tokens, 0, &mut [&mut hook]).unwrap().remove(0).unwrap();
    assert_eq!(hook.0.len(), 6);
    for (matrix, sums) in &hook.0 {
        let due = matrix.sum_dim_intlist([2i64].as_slice(), false, Kind::Float);
        assert_eq!(due.size(), sums.size());
        assert!(f64::try_from((due - sums).abs().max()).unwrap() < 1e-4);
    }
    let total = f64::try_from(hook.0[0].1.sum(Kind::Double)).unwrap();
    assert!((total - 4.0 * 300.0).abs() < 1e-2, "every query gives one: {total}");
}

#[test]
fn merged_values_and_moved_keys_are_what_the_cache_holds() {
    let rotary = rotary();
    let view = view(3, 12, &rotary);
    let merged = values(9, &[1, 2, 3, 8]);
    let positions = Tensor::arange(3, (Kind::Int64, Device::Cpu)).view([1, 1, 3]).expand([1, 2, 3], false);
    let edits = Edits { values: Some(merged.shallow_clone()), positions: Some(positions), channels: None };
    let selection = uniform(&[0, 3, 5, 1, 2, 11], 3).with_edits(edits);
    selection.check(1, 2, 12).unwrap();
    let cache = view.compress(&selection).unwrap().remove(0);
    let (keys, vals) = cache.head(1).unwrap();
    assert_eq!(vals, merged.get(0).get(1));
    // Key 11 now stands at position 2: undoing both rotations gives the same key.
    let undone = rotary.unrotate(&keys.get(2).view([1, 1, 1, 8]), &Tensor::from_slice(&[2i64]).view([1, 1, 1]), 12);
    let original = view.unrotated_keys().unwrap().get(0).get(1).get(11);
    assert!(f64::try_from((undone.unwrap().view([8]) - original).abs().max()).unwrap() < 1e-5);
    assert!(view.restrict(&selection).is_err(), "nothing follows a press that moves keys");
}

#[test]
fn edits_that_do_not_fit_are_named() {
    let with =
        |edits: Edits| uniform(&[0, 3, 5, 1, 2, 11], 3).with_edits(edits).check(1, 2, 12).unwrap_err().to_string();
    let wrong = with(Edits { values: Some(values(1, &[1, 2, 4, 8])), ..Edits::default() });
    assert!(wrong.contains("new values of shape [1, 2, 4, 8]"), "{wrong}");
    let infinite = Tensor::full([1, 2, 3, 8], f64::INFINITY, (Kind::Float, Device::Cpu));
    assert!(with(Edits { values: Some(infinite), ..Edits::default() }).contains("not finite"));
    let positions = Tensor::zeros([1, 2, 2], (Kind::Int64, Device::Cpu));
    assert!(with(Edits { positions: Some(positions), ..Edits::default() }).contains("new positions"));
    let channels = Tensor::zeros([1, 3, 4], (Kind::Int64, Device::Cpu));
    assert!(with(Edits { channels: Some(channels), ..Edits::default() }).contains("key channels"));
}

#[test]
fn what_was_not_declared_cannot_be_read() {
    let rotary = rotary();
    let (keys, vals) = (values(1, &[1, 2, 9, 8]), values(2, &[1, 2, 9, 8]));
    let view = LayerView::new(0, GEOMETRY, keys, vals, Materialised::default(), &rotary).unwrap();
    for error in [view.attention_sums().err(), view.output_projection().err(), view.hidden_states().err()] {
        assert!(error.unwrap().to_string().contains("do not declare"));
    }
}
