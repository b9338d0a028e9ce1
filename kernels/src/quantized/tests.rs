//! Quantized keys and values: what they lose, and attention over them on every instruction set.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tch::{Device, Kind, Tensor};

use super::{Bits, Format, KeySteps, LANES, Quantized, rotate_row, rotation};
use crate::attention::{self, Part, Sequence};
use crate::dispatch::Level;
use crate::testing::{distance, largest, random, stamp, unit, with_threads};

stamp!(attention_reads_what_unpacking_gives);

fn formats() -> impl Strategy<Value = Format> {
    let bits = prop_oneof![Just(Bits::Two), Just(Bits::Four), Just(Bits::Eight)];
    let keys = prop_oneof![Just(KeySteps::PerChannel), Just(KeySteps::PerToken)];
    (bits, prop_oneof![Just(64i64), Just(16), Just(48)], keys, any::<bool>())
        .prop_map(|(bits, group, keys, hadamard)| Format { bits, group, keys, hadamard })
}

fn kivi(bits: Bits, group: i64) -> Format {
    Format { bits, group, keys: KeySteps::PerChannel, hadamard: false }
}

/// Random keys of `widths[0]` and values of `widths[1]` channels, so many groups in each head.
fn store(seed: u64, groups: &[i64], widths: [i64; 2], format: Format, kind: Kind) -> Quantized {
    let mut indptr = vec![0];
    for count in groups {
        indptr.push(indptr[indptr.len() - 1] + count);
    }
    let rows = indptr[groups.len()] * format.group;
    let draw = |part: u64, width: i64| random(seed.wrapping_add(part), &[rows, width], 2.0, kind);
    Quantized::new(&draw(0, widths[0]), &draw(1, widths[1]), indptr, format).unwrap()
}

fn attention_reads_what_unpacking_gives(level: Level, kind: Kind) {
    let dim = prop_oneof![Just(64i64), Just(128), Just(80), 1i64..40];
    let shape = (1i64..4, 1i64..6, dim, 0.0f64..1.0, any::<bool>());
    let strategy = (any::<u64>(), shape, formats(), [0i64..4, 0i64..14], 1i32..5);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) };
    TestRunner::new(config)
        .run(&strategy, |(seed, (queries, heads_each, dim, share, pruned), format, groups, threads)| {
            // Of the channels of keys, some from the first on, others from the end.
            let kept = if pruned { ((dim as f64 * share) as i64).max(1) } else { dim };
            let lists = [(0..kept).collect::<Vec<i64>>(), (dim - kept..dim).collect()];
            let channels = Tensor::from_slice(&lists.concat()).view([2, kept]);
            let channels = pruned.then_some(&channels);
            let store = store(seed, &groups, [kept, dim], format, kind);
            let query = random(seed.wrapping_add(9), &[queries, 2 * heads_each, dim], 2.0, kind);
            let sequence = || [Sequence { queries, parts: vec![Part::Quantized { store: &store, channels }] }];
            let ours = with_threads(threads, || attention::on(level, &query, &sequence(), 2, 0.2)).unwrap().unwrap();

            let wide = query.to_kind(Kind::Float).transpose(0, 1).contiguous();
            let (mut outputs, mut most) = (Vec::new(), 0f64);
            for head in 0..2 {
                let [keys, values] = store.unpacked(head).unwrap();
                let own = wide.narrow(0, head as i64 * heads_each, heads_each);
                let own = own.index_select(2, &Tensor::from_slice(&lists[head]));
                let rows = |data: &Tensor| data.unsqueeze(0);
                let exact = attention::attend(&own, &rows(&keys), &rows(&values), attention::Mask::None, 0.2).unwrap();
                outputs.push(exact.output);
                most = most.max(largest(&values));
            }
            let exact = Tensor::cat(&outputs, 0).transpose(0, 1).reshape([queries, 2 * heads_each * dim]);
            // Both sides sum in float32: products of codes with steps, and of zeros, add up to three times a logit's
            // terms of at most 4 * 0.2 a channel, as weighted values do; rotating a row sums its channels, twice.
            let turns = if format.hadamard { 2.0 * (dim as f64).log2().ceil() * (dim as f64).sqrt() } else { 0.0 };
            let logits = 3.0 * (2.0 * dim as f64 + 4.0 + turns) * unit(Kind::Float) * kept as f64 * 0.8;
            let tokens = (groups[0].max(groups[1]) * format.group) as f64;
            let sums = 3.0 * (2.0 * tokens + 16.0 + turns) * unit(Kind::Float);
            let allowed = (unit(kind) + logits.exp_m1() + sums) * most * 1.01 + 1e-7;
            let off = distance(&ours, &exact);
            prop_assert!(off <= allowed, "off by {off} of {allowed}");
            Ok(())
        })
        .unwrap();
}

#[test]
fn unpacking_is_within_half_a_step_of_what_was_packed() {
    for (bits, keys) in
        Bits::ALL.into_iter().flat_map(|bits| [(bits, KeySteps::PerChannel), (bits, KeySteps::PerToken)])
    {
        for magnitude in [1e-6, 1.0, 1e4] {
            let format = Format { bits, group: 32, keys, hadamard: false };
            let rows = |seed: u64, width: i64| random(seed, &[96, width], magnitude, Kind::Float);
            let (keys, values) = (rows(1, 40), rows(2, 72));
            let store = Quantized::new(&keys, &values, vec![0, 1, 3], format).unwrap();
            let heads = [store.unpacked(0).unwrap(), store.unpacked(1).unwrap()];
            // Half a step, and what float16 makes of step and zero (below 6e-8 it has steps of that).
            let step = 2.0 * magnitude / f64::from(bits.largest());
            let allowed = 0.5 * step + 3.0 * (unit(Kind::Half) * magnitude + f64::from(bits.largest()) * 6e-8);
            for (side, exact) in [keys, values].iter().enumerate() {
                let off = distance(&Tensor::cat(&[&heads[0][side], &heads[1][side]], 0), exact);
                assert!(off <= allowed, "{bits:?} {magnitude}: {off} of {allowed}");
            }
        }
    }
}

/// One channel is twenty times the others: rotated, it costs the others less.
#[test]
fn rotation_spreads_what_one_channel_holds() {
    let rows = random(1, &[64, 64], 1.0, Kind::Float);
    let spiked = &rows + Tensor::eye(64, (Kind::Float, Device::Cpu)).narrow(0, 5, 1) * 20.0;
    let off = |hadamard: bool| {
        let format = Format { bits: Bits::Four, group: 64, keys: KeySteps::PerToken, hadamard };
        let store = Quantized::new(&spiked, &spiked, vec![0, 1], format).unwrap();
        f64::try_from((&store.unpacked(0).unwrap()[0] - &spiked).square().mean(Kind::Double)).unwrap().sqrt()
    };
    // Spread over 64 channels it is 2.5 of either sign: with what the others hold, steps are 0.4 of what they were.
    assert!(off(true) < 0.6 * off(false), "{} and {}", off(true), off(false));
}

#[test]
fn a_rotation_undoes_itself_and_is_that_of_the_reference() {
    for width in [1i64, 7, 12, 64, 96] {
        let rows = random(3, &[5, width], 1.0, Kind::Float);
        let turned = rotation::rotate(&rows).unwrap();
        let allowed = 8.0 * (width as f64).sqrt() * unit(Kind::Float);
        assert!(distance(&rotation::rotate(&turned).unwrap(), &rows) <= 2.0 * allowed);
        let mut row: Vec<f32> = Vec::try_from(rows.get(0)).unwrap();
        rotate_row(&mut row);
        assert!(distance(&Tensor::from_slice(&row), &turned.get(0)) <= allowed);
    }
}

#[test]
fn bytes_are_those_of_codes_and_scales() {
    for (bits, most) in [(Bits::Two, 0.16), (Bits::Four, 0.29), (Bits::Eight, 0.54)] {
        let store = store(1, &[64, 64, 64], [64, 64], kivi(bits, 64), Kind::BFloat16);
        let rows = 3 * 64 * 64;
        let codes = 2 * rows * 64 * bits.count() as usize / 8;
        assert_eq!(store.bytes(), codes + 3 * 64 * 2 * 64 * 2 + rows * 2 * 2 + 4 * 8);
        let share = store.bytes() as f64 / (2 * rows * 64 * 2) as f64;
        assert!(share < most, "{bits:?}: {share}");
    }
}

#[test]
fn equal_values_survive_and_what_does_not_fit_is_refused() {
    let same = Tensor::full([2 * LANES, 8], 3.5, (Kind::Float, Device::Cpu));
    let new = |keys: &Tensor, values: &Tensor, indptr: Vec<i64>, group: i64| {
        Quantized::new(keys, values, indptr, kivi(Bits::Four, group))
    };
    for bits in Bits::ALL {
        let store = Quantized::new(&same, &same, vec![0, 2], kivi(bits, LANES)).unwrap();
        for unpacked in store.unpacked(0).unwrap() {
            assert_eq!(unpacked, same);
        }
        assert!(store.unpacked(1).is_err());
    }
    assert!(new(&same, &same, vec![0, 1], LANES).is_err());
    assert!(new(&same, &same, vec![0, 2], 0).is_err());
    assert!(new(&same, &same, vec![0, 4], 8).is_err());
    assert!(new(&same, &same.narrow(0, 0, 4), vec![0, 2], LANES).is_err());
    let huge = &same * 1e6;
    assert!(new(&huge, &huge, vec![0, 2], LANES).is_err());
}

#[test]
fn what_was_stored_is_restored_and_damage_is_refused() {
    let format = Format { bits: Bits::Four, group: 32, keys: KeySteps::PerToken, hadamard: true };
    let store = store(5, &[2, 1], [40, 24], format, Kind::Float);
    let parts = || store.tensors().map(|(_, tensor)| tensor.shallow_clone());
    let [a, b, c, d] = parts();
    let again = Quantized::restore(format, vec![0, 2, 3], [40, 24], [a, b], [c, d]).unwrap();
    assert_eq!(again.unpacked(1).unwrap(), store.unpacked(1).unwrap());
    let [a, b, c, d] = parts();
    assert!(Quantized::restore(format, vec![0, 2, 4], [40, 24], [a, b], [c, d]).is_err());
    let [a, b, c, d] = parts();
    assert!(Quantized::restore(format, vec![0, 2, 3], [40, 80], [a, b], [c, d]).is_err());
    let [a, b, c, d] = parts();
    assert!(Quantized::restore(kivi(Bits::Four, 32), vec![0, 2, 3], [40, 24], [a, b], [c, d]).is_err());
}
