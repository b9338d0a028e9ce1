//! Caches: what is appended, selected, forgotten, forked and stored.

use pressroom::cache::{KvCache, LayerCache};
use pressroom::press::Selection;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::support::{GEOMETRY, values};

fn layer(seed: u64, tokens: i64, selection: &Selection) -> LayerCache {
    let keys = values(seed, &[1, 2, tokens, 8]);
    LayerCache::compress(&keys, &values(seed + 1, &[1, 2, tokens, 8]), selection).unwrap().remove(0)
}

fn ragged(mask: &[bool], tokens: i64) -> Selection {
    Selection::from_mask(&Tensor::from_slice(mask).view([1, 2, tokens])).unwrap()
}

/// Attention of fixed queries over the cache.
fn probe(cache: &LayerCache) -> Tensor {
    cache.attend(&values(99, &[4, 1, 8]), 0.3).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn bytes_are_those_of_the_pairs_kept(mask in proptest::collection::vec(any::<bool>(), 2 * 33)) {
        prop_assume!(mask.iter().any(|&kept| kept));
        let cache = layer(1, 33, &ragged(&mask, 33));
        let pairs = mask.iter().filter(|&&kept| kept).count();
        prop_assert_eq!(cache.bytes(), pairs * 2 * 8 * 4 + 3 * 8);
    }

    #[test]
    fn select_after_append_is_attention_over_what_is_left(
        mask in proptest::collection::vec(any::<bool>(), 2 * 6), extra in 1i64..5, seed in 0u64..100,
    ) {
        let mut cache = layer(seed, 6, &ragged(&mask, 6));
        cache.append(&values(seed + 5, &[2, extra, 8]), &values(seed + 6, &[2, extra, 8])).unwrap();
        let lengths = cache.lengths();
        // Keep every other entry of each head, by its index in prefix and tail together.
        let lists: Vec<Vec<i64>> = lengths.iter().map(|&n| (0..n).step_by(2).collect()).collect();
        let flat: Vec<i64> = lists.concat();
        let indptr = vec![0, lists[0].len() as i64, flat.len() as i64];
        let selection = Selection::ragged(pressroom::press::RaggedIndices { indices: Tensor::from_slice(&flat), indptr });
        let selected = cache.select(&selection).unwrap();
        prop_assert_eq!(selected.lengths(), lists.iter().map(|l| l.len() as i64).collect::<Vec<_>>());
        for (head, list) in lists.iter().enumerate() {
            let (keys, _) = cache.prefix().head(head).unwrap();
            let all = Tensor::cat(&[keys, cache.appended().unwrap().0.get(head as i64)], 0);
            let expected = all.index_select(0, &Tensor::from_slice(list));
            prop_assert_eq!(selected.prefix().head(head).unwrap().0, expected);
        }
    }

    #[test]
    fn a_span_is_what_its_heads_hold_there(stored in 0i64..7, extra in 0i64..5, start in 0i64..12, length in 0i64..12) {
        let mut cache = layer(3, stored, &Selection::all());
        cache.append(&values(7, &[2, extra, 8]), &values(8, &[2, extra, 8])).unwrap();
        let span = cache.span(start, length);
        if start + length > stored + extra {
            prop_assert!(span.is_err());
            return Ok(());
        }
        let (keys, values) = span.unwrap();
        for head in 0..2 {
            let (all_keys, all_values) = cache.head(head).unwrap();
            prop_assert_eq!(keys.get(head as i64), all_keys.narrow(0, start, length));
            prop_assert_eq!(values.get(head as i64), all_values.narrow(0, start, length));
        }
    }

    #[test]
    fn forks_do_not_disturb_each_other(appended in 1i64..100, seed in 0u64..100) {
        let mut cache = KvCache::from_layers(vec![layer(seed, 5, &Selection::all())], 5);
        let add = |cache: &mut KvCache, count: i64, seed: u64| {
            let new = values(seed, &[2, count, 8]);
            cache.layer_mut(0).unwrap().append(&new, &new).unwrap();
        };
        add(&mut cache, appended, 7);
        let mut fork = cache.fork().unwrap();
        let before = probe(&cache.layers()[0]);
        add(&mut fork, 3, 8);
        prop_assert_eq!(probe(&cache.layers()[0]), before);
        prop_assert_eq!(fork.lengths(), vec![vec![5 + appended + 3; 2]]);
    }

    #[test]
    fn files_hold_what_memory_holds(mask in proptest::collection::vec(any::<bool>(), 2 * 9), extra in 0i64..4) {
        prop_assume!(mask.iter().any(|&kept| kept));
        let mut layers = vec![layer(3, 9, &ragged(&mask, 9)), layer(5, 9, &Selection::all())];
        for layer in &mut layers {
            layer.append(&values(11, &[2, extra, 8]), &values(12, &[2, extra, 8])).unwrap();
        }
        let cache = KvCache::from_layers(layers, 9 + extra);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.safetensors");
        cache.save(&path).unwrap();
        let read = KvCache::load(&path, Device::Cpu).unwrap();
        prop_assert_eq!(read.position(), cache.position());
        prop_assert_eq!(read.lengths(), cache.lengths());
        for (mine, theirs) in read.layers().iter().zip(cache.layers()) {
            prop_assert_eq!(mine.prefix().name(), theirs.prefix().name());
            if extra > 0 {
                prop_assert_eq!(probe(mine), probe(theirs));
            }
        }
    }

    #[test]
    fn damaged_cache_files_are_errors(cut in 0usize..2000, flip in 0usize..400) {
        let cache = KvCache::from_layers(vec![layer(3, 4, &Selection::all())], 4);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.safetensors");
        cache.save(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..cut.min(whole.len() - 1)]).unwrap();
        prop_assert!(KvCache::load(&path, Device::Cpu).is_err());
        let mut flipped = whole.clone();
        flipped[flip % whole.len()] ^= 0x41;
        std::fs::write(&path, &flipped).unwrap();
        let _ = KvCache::load(&path, Device::Cpu);
    }
}

#[test]
fn appending_does_not_copy_what_is_there() {
    let mut cache = layer(1, 1000, &Selection::all());
    let prefix = cache.prefix().head(0).unwrap().0.data_ptr();
    let new = values(2, &[2, 1, 8]);
    let mut moves = 0;
    let mut tail = std::ptr::null_mut();
    for _ in 0..1000 {
        cache.append(&new, &new).unwrap();
        assert_eq!(cache.prefix().head(0).unwrap().0.data_ptr(), prefix);
        let now = cache.appended().unwrap().0.data_ptr();
        moves += usize::from(now != tail);
        tail = now;
    }
    // Room doubles from 64 to 1024 tokens.
    assert!(moves <= 5, "the tail moved {moves} times in 1000 appends");
}

#[test]
fn a_rollback_that_one_layer_refuses_changes_none() {
    // The second layer has fewer appended tokens than would have to be forgotten.
    let mut layers = vec![layer(1, 6, &Selection::all()), layer(3, 6, &ragged(&[true; 12], 6))];
    for (layer, count) in layers.iter_mut().zip([4, 2]) {
        let new = values(7, &[2, count, 8]);
        layer.append(&new, &new).unwrap();
    }
    let mut cache = KvCache::from_layers(layers, 10);
    let error = cache.rollback(7).unwrap_err().to_string();
    assert!(error.contains("layer 1 has 2 appended tokens"), "{error}");
    for position in [5, 11, -1, i64::MAX, i64::MIN] {
        assert!(cache.rollback(position).is_err(), "{position}");
    }
    assert_eq!((cache.position(), cache.lengths()), (10, vec![vec![10; 2], vec![8; 2]]));
    cache.rollback(8).unwrap();
    assert_eq!((cache.position(), cache.lengths()), (8, vec![vec![8; 2], vec![6; 2]]));
}

#[test]
fn an_empty_cache_takes_tokens() {
    let geometry = pressroom::view::Geometry { layers: 1, ..GEOMETRY };
    let mut cache = KvCache::empty(geometry, Kind::Float, Device::Cpu).unwrap();
    assert_eq!(cache.bytes(), 0);
    let new = values(2, &[2, 3, 8]);
    cache.layer_mut(0).unwrap().append(&new, &new).unwrap();
    assert_eq!(cache.lengths(), [[3, 3]]);
    assert!(cache.layer_mut(1).is_err());
}

#[test]
fn wrong_shapes_are_errors_with_the_shapes() {
    let mut cache = layer(1, 4, &Selection::all());
    let error = cache.append(&values(2, &[3, 1, 8]), &values(2, &[3, 1, 8])).unwrap_err().to_string();
    assert!(error.contains("[3, 1, 8]"), "{error}");
    let error = cache.attend(&values(2, &[4, 1, 16]), 1.0).unwrap_err().to_string();
    assert!(error.contains("[4, 1, 16]"), "{error}");
}

#[test]
fn everything_kept_of_a_batch_holds_its_own_bytes() {
    let keys = values(1, &[3, 2, 5, 8]);
    let caches = LayerCache::compress(&keys, &values(2, &[3, 2, 5, 8]), &Selection::all()).unwrap();
    let given = keys.data_ptr() as usize;
    for (sequence, cache) in caches.iter().enumerate() {
        let (held, _) = cache.prefix().head(0).unwrap();
        assert_eq!(held, keys.get(sequence as i64).get(0));
        let bytes = 3 * 2 * 5 * 8 * 4;
        assert!(!(given..given + bytes).contains(&(held.data_ptr() as usize)), "sequence {sequence} holds the batch");
        assert_eq!(cache.bytes(), 2 * 2 * 5 * 8 * 4);
    }
    // A single sequence is not copied: its allocation holds nothing else.
    let keys = values(1, &[1, 2, 5, 8]);
    let cache = LayerCache::compress(&keys, &values(2, &[1, 2, 5, 8]), &Selection::all()).unwrap().remove(0);
    assert_eq!(cache.prefix().head(0).unwrap().0.data_ptr(), keys.data_ptr());
}
