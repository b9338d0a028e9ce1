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
    // Of the channels of keys, the share that is kept.
    let share = prop_oneof![Just(1.0), 0.0f64..1.0];
    attention_over_codes(24, kind, 0.0, (dim, share, formats()), &|threads, query, sequences, kv_heads, scale| {
        with_threads(threads, || attention::on(level, query, sequences, kv_heads, scale)).unwrap().unwrap()
    });
}

/// head_dim, share of its channels that keys have, format.
type Shape = (i64, f64, Format);

/// Attention by some implementation: threads, query, sequences, KV heads and scale are given.
type Attend<'a> = &'a dyn Fn(i32, &Tensor, &[Sequence<'_>], i64, f64) -> Tensor;

/// Attention over codes alone against attention over what they unpack to. `factors` is what rounding the factors of
/// codes may cost.
fn attention_over_codes(cases: u32, kind: Kind, factors: f64, shape: impl Strategy<Value = Shape>, attend: Attend<'_>) {
    let strategy = (any::<u64>(), (1i64..4, 1i64..6), shape, [0i64..4, 0i64..14], 1i32..5);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    TestRunner::new(config)
        .run(&strategy, |(seed, (queries, heads_each), (dim, share, format), groups, threads)| {
            // Some channels from the first on, others from the end.
            let kept = ((dim as f64 * share) as i64).max(1);
            let lists = [(0..kept).collect::<Vec<i64>>(), (dim - kept..dim).collect()];
            let channels = Tensor::from_slice(&lists.concat()).view([2, kept]);
            let channels = (kept < dim).then_some(&channels);
            let store = store(seed, &groups, [kept, dim], format, kind);
            let query = random(seed.wrapping_add(9), &[queries, 2 * heads_each, dim], 2.0, kind);
            let sequence = [Sequence { queries, parts: vec![Part::Quantized { store: &store, channels }] }];
            let ours = attend(threads, &query, &sequence, 2, 0.2);

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
            let terms = (2.0 * dim as f64 + 4.0 + turns) * unit(Kind::Float) + factors;
            let logits = 3.0 * terms * kept as f64 * 0.8;
            let tokens = (groups[0].max(groups[1]) * format.group) as f64;
            let sums = 3.0 * ((2.0 * tokens + 16.0 + turns) * unit(Kind::Float) + factors);
            let allowed = (unit(kind) + logits.exp_m1() + sums) * most * 1.01 + 1e-7;
            let off = distance(&ours, &exact);
            prop_assert!(off <= allowed, "off by {off} of {allowed}");
            Ok(())
        })
        .unwrap();
}

/// The kernel of a GPU, with as few shapes as show what can differ: each is compiled.
mod on_a_gpu {
    use super::*;
    use crate::attention::{Extent, Mask, attend_on_gpu, by_states};
    use crate::testing::emulated;

    const fn format(bits: Bits, group: i64, keys: KeySteps, hadamard: bool) -> Format {
        Format { bits, group, keys, hadamard }
    }

    const SHAPES: [Shape; 6] = [
        (64, 1.0, format(Bits::Four, 64, KeySteps::PerChannel, false)),
        (80, 0.6, format(Bits::Two, 48, KeySteps::PerToken, true)),
        (40, 1.0, format(Bits::Eight, 16, KeySteps::PerToken, false)),
        (5, 0.7, format(Bits::Two, 16, KeySteps::PerChannel, false)),
        (128, 0.5, format(Bits::Eight, 96, KeySteps::PerChannel, true)),
        (96, 1.0, format(Bits::Four, 32, KeySteps::PerToken, true)),
    ];

    fn on_emulator(query: &Tensor, sequences: &[Sequence<'_>], kv_heads: i64, scale: f64) -> Tensor {
        emulated(|machine| attend_on_gpu(machine, query, sequences, kv_heads, scale).unwrap().unwrap())
    }

    /// What is left of a factor that is split into bf16s.
    fn lost(kind: Kind) -> f64 {
        if kind == Kind::Float { 2f64.powi(-24) } else { 2f64.powi(-16) }
    }

    fn attention_reads_what_unpacking_gives(kind: Kind, shapes: &'static [Shape]) {
        let shape = prop::sample::select(shapes);
        attention_over_codes(
            4 * shapes.len() as u32,
            kind,
            lost(kind),
            shape,
            &|_, query, sequences, kv_heads, scale| on_emulator(query, sequences, kv_heads, scale),
        );
    }

    #[test]
    fn f32() {
        attention_reads_what_unpacking_gives(Kind::Float, &SHAPES);
    }

    #[test]
    fn bf16() {
        attention_reads_what_unpacking_gives(Kind::BFloat16, &SHAPES[..2]);
    }

    #[test]
    fn f16() {
        attention_reads_what_unpacking_gives(Kind::Half, &SHAPES[1..2]);
    }

    /// A block of new tokens of two sequences, over the codes of one, over the codes and the rest of the other, and over
    /// themselves.
    #[test]
    fn codes_merge_with_what_is_beside_them() {
        let format = kivi(Bits::Four, 64);
        let stores = [[9, 0], [1, 3]].map(|groups| store(groups[0] as u64, &groups, [64, 64], format, Kind::Float));
        let draw = |seed: u64, rows: i64| random(seed, &[rows, 64], 1.0, Kind::Float);
        let (rest, tail) = ([draw(1, 71), draw(2, 71)], [draw(3, 10), draw(4, 10)].map(|rows| rows.view([2, 5, 64])));
        let tail = || Part::Rows {
            keys: &tail[0],
            values: &tail[1],
            extent: Extent::Uniform { capacity: 5, length: 5 },
            mask: Mask::Causal,
        };
        let ragged =
            Part::Rows { keys: &rest[0], values: &rest[1], extent: Extent::Ragged(&[0, 1, 71]), mask: Mask::None };
        let codes = |index: usize| Part::Quantized { store: &stores[index], channels: None };
        let sequences = [
            Sequence { queries: 3, parts: vec![codes(0), tail()] },
            Sequence { queries: 0, parts: vec![codes(1)] },
            Sequence { queries: 5, parts: vec![codes(1), ragged, tail()] },
        ];
        let query = random(7, &[8, 6, 64], 1.0, Kind::Float);
        let ours = on_emulator(&query, &sequences, 2, 0.125);
        let exact = by_states(&query, &sequences, 0.125).unwrap();
        let off = distance(&ours, &exact);
        assert!(off <= 2e-5, "off by {off}");
        // A sequence's answer is the same alone.
        let alone = on_emulator(&query.narrow(0, 0, 3), &sequences[..1], 2, 0.125);
        assert_eq!(alone, ours.narrow(0, 0, 3));
    }

    /// With logits beyond what weights tell apart they are still weights.
    #[test]
    fn extremes_stay_within_the_values() {
        for (magnitude, kind) in [(1e30, Kind::Float), (1e-30, Kind::Float), (1e15, Kind::BFloat16), (6e4, Kind::Half)]
        {
            let (dim, _, format) = SHAPES[1];
            let draw = |seed: u64| random(seed, &[4 * format.group, dim], 3e4, kind);
            let store = Quantized::new(&draw(1), &draw(2), vec![0, 3, 4], format).unwrap();
            let query = random(3, &[2, 4, dim], magnitude, kind);
            let sequence = Sequence { queries: 2, parts: vec![Part::Quantized { store: &store, channels: None }] };
            let output = on_emulator(&query, &[sequence], 2, 1.0);
            let values = [0, 1].map(|head| largest(&store.unpacked(head).unwrap()[1]));
            assert!(output.isfinite().all().int64_value(&[]) == 1, "{magnitude}");
            assert!(largest(&output) <= values[0].max(values[1]) * (1.0 + 3.0 * unit(kind) + 1e-4), "{magnitude}");
        }
    }
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
