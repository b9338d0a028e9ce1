//! The order of scores against libtorch's stable sort.

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use super::{among_best, best, descending, gpu, reference};
use crate::testing::{arranged, emulated, random, with_threads};

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
        let counts: Vec<i64> = (0..outer * rows).map(|row| (row * 37 + seed as i64 % 5).rem_euclid(width + 1)).collect();
        let by_row = |data: &Tensor| data.reshape([outer * rows, width]);
        let among = with_threads(threads, || among_best(&by_row(&given), &counts)).unwrap();
        for (row, count) in counts.into_iter().enumerate() {
            let mut due = indices(&by_row(&ours).get(row as i64))[..count as usize].to_vec();
            due.sort_unstable();
            let best = with_threads(threads, || best(&by_row(&given).get(row as i64), count)).unwrap();
            prop_assert_eq!(indices(&best), due.clone());
            prop_assert_eq!(indices(&among.get(row as i64).nonzero()), due);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn a_gpu_finds_the_best_that_the_processor_finds(
        seed in any::<u64>(),
        (rows, width) in (0i64..5, prop_oneof![0i64..4, 4i64..200, 500i64..1100]),
        share in prop_oneof![Just(0.0), Just(1.0), 0.0f64..1.0],
        // Few levels make ties.
        levels in prop_oneof![Just(0.1), Just(2.0), Just(50.0), Just(1e9), Just(3e38)],
        arrangement in 0u8..4,
    ) {
        let scores = (random(seed, &[rows, width], 1.0, Kind::Float) * levels).round();
        let given = arranged(&scores, arrangement);
        let count = (width as f64 * share).round() as i64;
        let ours = emulated(|machine| gpu::best(machine, &given, &[rows, count]).unwrap());
        prop_assert_eq!(ours, best(&scores, count).unwrap());
        let counts: Vec<i64> = (0..rows).map(|row| (count + row * 37).rem_euclid(width + 1)).collect();
        let ours = emulated(|machine| gpu::among_best(machine, &given, &counts).unwrap());
        prop_assert_eq!(ours, among_best(&scores, &counts).unwrap());
    }
}

#[test]
fn extreme_scores_have_their_place() {
    let scores = [0.0, -0.0, f32::INFINITY, f32::MIN, f32::NAN, 1e-45, -1e-45, f32::NEG_INFINITY, f32::MAX, -f32::NAN];
    let scores = Tensor::from_slice(&scores);
    assert_eq!(indices(&descending(&scores).unwrap()), [4, 9, 2, 8, 5, 0, 1, 6, 3, 7]);
    assert_eq!(indices(&reference(&scores).unwrap()), [4, 9, 2, 8, 5, 0, 1, 6, 3, 7]);
    assert_eq!(indices(&best(&scores, 6).unwrap()), [0, 2, 4, 5, 8, 9]);
    for count in 0..=10 {
        let on_a_gpu = emulated(|machine| gpu::best(machine, &scores, &[count]).unwrap());
        assert_eq!(on_a_gpu, best(&scores, count).unwrap());
    }
    assert!(best(&scores, 11).unwrap_err().to_string().contains("the best 11 of 10 scores"));
    let rows = scores.view([2, 5]);
    assert!(among_best(&rows, &[0, -1]).unwrap_err().to_string().contains("the best -1 of 5 scores"));
    assert!(among_best(&rows, &[1]).unwrap_err().to_string().contains("1 counts for 2 rows"));
}

#[test]
fn other_dtypes_are_ordered_too() {
    let scores = random(3, &[2, 30], 1.0, Kind::Double);
    assert_eq!(indices(&descending(&scores).unwrap()), indices(&reference(&scores).unwrap()));
    assert_eq!(best(&scores, 7).unwrap(), best(&scores.to_kind(Kind::Float), 7).unwrap());
    let counts = [7, 0];
    assert_eq!(among_best(&scores, &counts).unwrap(), among_best(&scores.to_kind(Kind::Float), &counts).unwrap());
    assert!(descending(&Tensor::zeros([0, 5], (Kind::Float, Device::Cpu))).unwrap().numel() == 0);
}
