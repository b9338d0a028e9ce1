//! The order of scores against libtorch's stable sort.

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use super::{descending, reference};
use crate::testing::{arranged, random, with_threads};

fn indices(order: &Tensor) -> Vec<i64> {
    Vec::try_from(order.contiguous().view(-1)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn the_order_is_that_of_a_stable_sort(
        seed in any::<u64>(),
        (outer, rows, width) in (1i64..3, 0i64..4, prop_oneof![0i64..4, 4i64..200, Just(4096)]),
        levels in prop_oneof![Just(2.0), Just(50.0), Just(1e9)],
        arrangement in 0u8..4,
        threads in 1i32..5,
    ) {
        // Few levels make ties.
        let scores = (random(seed, &[outer, rows, width], 1.0, Kind::Float) * levels).round();
        let given = arranged(&scores, arrangement);
        let ours = with_threads(threads, || descending(&given)).unwrap();
        prop_assert_eq!(ours.size(), scores.size());
        prop_assert_eq!(indices(&ours), indices(&reference(&scores).unwrap()));
    }
}

#[test]
fn extreme_scores_have_their_place() {
    let scores = [0.0, -0.0, f32::INFINITY, f32::MIN, f32::NAN, 1e-45, -1e-45, f32::NEG_INFINITY, f32::MAX, -f32::NAN];
    let scores = Tensor::from_slice(&scores);
    assert_eq!(indices(&descending(&scores).unwrap()), [4, 9, 2, 8, 5, 0, 1, 6, 3, 7]);
    assert_eq!(indices(&reference(&scores).unwrap()), [4, 9, 2, 8, 5, 0, 1, 6, 3, 7]);
}

#[test]
fn other_dtypes_are_ordered_too() {
    let scores = random(3, &[2, 30], 1.0, Kind::Double);
    assert_eq!(indices(&descending(&scores).unwrap()), indices(&reference(&scores).unwrap()));
    assert!(descending(&Tensor::zeros([0, 5], (Kind::Float, Device::Cpu))).unwrap().numel() == 0);
}
