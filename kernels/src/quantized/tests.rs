//! Quantized keys and values: what they lose, and attention over them on every instruction set.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tch::{Device, Kind, Tensor};

use super::{Bits, Quantized};
use crate::attention::{self, Part, Sequence};
use crate::dispatch::Level;
use crate::testing::{distance, largest, random, stamp, unit, with_threads};

stamp!(attention_reads_what_unpacking_gives);

const BITS: [Bits; 3] = [Bits::Two, Bits::Four, Bits::Eight];

fn store(seed: u64, groups: &[i64], group: i64, head_dim: i64, bits: Bits, kind: Kind) -> Quantized {
    let indptr: Vec<i64> = std::iter::once(0)
        .chain(groups.iter().scan(0, |end, groups| {
            *end += groups;
            Some(*end)
        }))
        .collect();
    let rows = indptr[groups.len()] * group;
    let draw = |part: u64| random(seed.wrapping_add(part), &[rows, head_dim], 2.0, kind);
    Quantized::new(&draw(0), &draw(1), indptr, bits, group).unwrap()
}

fn attention_reads_what_unpacking_gives(level: Level, kind: Kind) {
    let strategy = (
        any::<u64>(),
        (1i64..4, 1i64..5, prop_oneof![Just(64i64), Just(128), (1i64..10).prop_map(|quarter| 4 * quarter)]),
        prop_oneof![Just(64i64), Just(32), 1i64..10],
        (0usize..3, [0i64..4, 0i64..20]),
        1i32..5,
    );
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) };
    TestRunner::new(config)
        .run(&strategy, |(seed, (queries, heads_each, head_dim), group, (bits, groups), threads)| {
            let store = store(seed, &groups, group, head_dim, BITS[bits], kind);
            let query = random(seed.wrapping_add(9), &[queries, 2 * heads_each, head_dim], 2.0, kind);
            let sequence = || [Sequence { queries, parts: vec![Part::Quantized(&store)] }];
            let ours = with_threads(threads, || attention::on(level, &query, &sequence(), 2, 0.2)).unwrap().unwrap();
            let [keys, values] = store.unpacked().unwrap();
            let own = query.to_kind(Kind::Float).transpose(0, 1);
            let exact = attention::attend_ragged(&own, &keys, &values, &store.row_indptr(), 0.2).unwrap();
            let exact = exact.output.transpose(0, 1).reshape([queries, 2 * heads_each * head_dim]);
            // Both sides sum in float32: logits of up to head_dim * 4 * 0.2, twice.
            let logits = 4.0 * (head_dim as f64 + 4.0) * unit(Kind::Float) * head_dim as f64 * 0.8;
            let sums = 2.0 * (1400.0 + 16.0) * unit(Kind::Float);
            let allowed = (unit(kind) + logits.exp_m1() + sums) * largest(&values) * 1.01 + 1e-7;
            let off = distance(&ours, &exact);
            prop_assert!(off <= allowed, "off by {off} of {allowed}");
            Ok(())
        })
        .unwrap();
}

#[test]
fn unpacking_is_within_half_a_step_of_what_was_packed() {
    for bits in BITS {
        for magnitude in [1e-6, 1.0, 1e4] {
            let rows = |seed: u64| random(seed, &[96, 64], magnitude, Kind::Float);
            let (keys, values) = (rows(1), rows(2));
            let store = Quantized::new(&keys, &values, vec![0, 1, 3], bits, 32).unwrap();
            let [unpacked_keys, unpacked_values] = store.unpacked().unwrap();
            // Half a step, and what float16 makes of step and zero (below 6e-8 it has steps of that).
            let step = 2.0 * magnitude / f64::from((1 << bits.count()) - 1);
            let allowed = 0.5 * step + 3.0 * (unit(Kind::Half) * magnitude + f64::from((1 << bits.count()) - 1) * 6e-8);
            for (ours, exact) in [(unpacked_keys, keys), (unpacked_values, values)] {
                let off = distance(&ours, &exact);
                assert!(off <= allowed, "{bits:?} {magnitude}: {off} of {allowed}");
            }
        }
    }
}

#[test]
fn bytes_are_those_of_codes_and_scales() {
    for (bits, most) in [(Bits::Two, 0.16), (Bits::Four, 0.29), (Bits::Eight, 0.54)] {
        let store = store(1, &[64, 64, 64], 64, 64, bits, Kind::BFloat16);
        let rows = 3 * 64 * 64;
        let codes = 2 * rows * 64 * bits.count() as usize / 8;
        assert_eq!(store.bytes(), codes + 3 * 64 * 2 * 64 * 2 + rows * 2 * 2 + 4 * 8);
        let share = store.bytes() as f64 / (2 * rows * 64 * 2) as f64;
        assert!(share < most, "{bits:?}: {share}");
    }
}

#[test]
fn equal_values_survive_and_what_does_not_fit_is_refused() {
    let same = Tensor::full([8, 8], 3.5, (Kind::Float, Device::Cpu));
    for bits in BITS {
        let store = Quantized::new(&same, &same, vec![0, 2], bits, 4).unwrap();
        for unpacked in store.unpacked().unwrap() {
            assert_eq!(unpacked, same);
        }
    }
    assert!(Quantized::new(&same, &same, vec![0, 1], Bits::Four, 4).is_err());
    assert!(Quantized::new(&same, &same, vec![0, 2], Bits::Four, 0).is_err());
    assert!(Quantized::new(&same, &same.narrow(0, 0, 4), vec![0, 2], Bits::Four, 4).is_err());
    let odd = same.narrow(1, 0, 7);
    assert!(Quantized::new(&odd, &odd, vec![0, 2], Bits::Four, 4).is_err());
    let huge = &same * 1e6;
    assert!(Quantized::new(&huge, &huge, vec![0, 2], Bits::Four, 4).is_err());
}
