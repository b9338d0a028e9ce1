//! Kept rows against torch operations.

use proptest::prelude::*;
use tch::{Kind, Tensor};

use super::{gpu, listed, reference, reference_listed, rows};
use crate::testing::{arranged, emulated, random, with_threads};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn what_is_listed_is_kept(
        seed in any::<u64>(),
        (heads, tokens, width) in (1i64..4, 1i64..1500, prop_oneof![Just(1i64), 2i64..9, Just(64)]),
        share in prop_oneof![Just(0.0), Just(0.1), Just(0.9), Just(1.0)],
        kind in prop_oneof![Just(Kind::Float), Just(Kind::BFloat16), Just(Kind::Half), Just(Kind::Int64)],
        arrangement in 0u8..4,
        threads in 1i32..5,
    ) {
        let data = arranged(&random(seed, &[heads, tokens, width], 9.0, kind), arrangement);
        let mask = (random(seed ^ 1, &[heads, tokens], 0.5, Kind::Float) + 0.5).lt(share);
        let (indices, offsets) = listed(&arranged(&mask, arrangement)).unwrap();
        prop_assert_eq!(&(indices.shallow_clone(), offsets.clone()), &reference_listed(&mask).unwrap());
        let kept = with_threads(threads, || rows(&data, &indices, &offsets)).unwrap();
        prop_assert!(kept.is_contiguous() && kept.kind() == kind);
        let due = reference(&data, &indices, &offsets).unwrap();
        let on_a_gpu = emulated(|machine| gpu::rows(machine, &data, &indices, &offsets).unwrap());
        prop_assert_eq!(on_a_gpu.as_ref(), Some(&due));
        prop_assert_eq!(kept, due);
    }
}

#[test]
fn a_gpu_copies_every_dtype_and_keeps_nothing_where_an_index_is_out_of_range() {
    for kind in [Kind::Bool, Kind::Int8, Kind::Double] {
        let data = random(1, &[2, 5, 3], 2.0, Kind::Float).to_kind(kind);
        let keep = |indices: &[i64]| {
            let indices = Tensor::from_slice(indices);
            emulated(|machine| gpu::rows(machine, &data, &indices, &[0, 1, 4]).unwrap())
        };
        let due = reference(&data, &Tensor::from_slice(&[4i64, 0, 3, 3]), &[0, 1, 4]).unwrap();
        assert_eq!(keep(&[4, 0, 3, 3]), Some(due));
        for bad in [-1, 5, i64::MAX, i64::MIN] {
            assert_eq!(keep(&[0, 1, bad, 4]), None);
        }
    }
}

#[test]
fn impossible_lists_are_errors() {
    let refused = |kind: Kind, indices: &[i64], offsets: &[i64]| {
        let data = Tensor::zeros([2, 5, 3], (kind, tch::Device::Cpu));
        rows(&data, &Tensor::from_slice(indices), offsets).unwrap_err().to_string()
    };
    for kind in [Kind::Float, Kind::Double] {
        assert!(refused(kind, &[0, 5], &[0, 1, 2]).contains("index 5 of 5 tokens"));
        assert!(refused(kind, &[0, -1], &[0, 1, 2]).contains("index -1 of 5 tokens"));
        for offsets in [[0, 1, 3].as_slice(), &[0, 2], &[1, 1, 2], &[0, 3, 2]] {
            assert!(refused(kind, &[0, 1], offsets).contains("do not divide 2 indices among 2 heads"));
        }
    }
}
