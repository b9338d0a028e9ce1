//! Received attention against the columns of a naive softmax in float64.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tch::{Device, Kind, Tensor};

use super::{Seen, Summary, gpu, received, reference, tiled};
use crate::dispatch::Level;
use crate::testing::{arranged, distance, emulated, largest, random, stamp_gpu, unit, with_threads};

stamp_gpu!(summaries_are_those_of_a_naive_softmax);

/// What keys are told, and the largest sum of the absolute products that make a logit.
fn exact(queries: &Tensor, keys: &Tensor, seen: Seen<'_>, summary: Summary<'_>) -> (Tensor, f64) {
    let (batch, heads, count, width) = queries.size4().unwrap();
    let (_, kv_heads, tokens, _) = keys.size4().unwrap();
    let wide = queries.to_kind(Kind::Double).view([batch, kv_heads, heads / kv_heads, count, width]);
    let keys = keys.to_kind(Kind::Double).unsqueeze(2).transpose(3, 4);
    let scale = 1.0 / (width.max(1) as f64).sqrt();
    let spread = largest(&wide.abs().matmul(&keys.abs())) * scale;
    let places = Tensor::arange(tokens, (Kind::Int64, Device::Cpu)).view([1, 1, -1]);
    let places = seen.positions.unwrap_or(&places).expand([batch, kv_heads, tokens], false);
    let at = Tensor::arange_start(seen.first, seen.first + count, (Kind::Int64, Device::Cpu)).unsqueeze(-1);
    let future = places.unsqueeze(-2).gt_tensor(&at).unsqueeze(2);
    let weights = (wide.matmul(&keys) * scale).masked_fill(&future, -1e300).softmax(-1, Kind::Double);
    let told = match summary {
        Summary::Sum => weights.sum_dim_intlist([3i64].as_slice(), false, Kind::Double),
        Summary::Most(_) if count == 0 || tokens == 0 => {
            Tensor::zeros([batch, heads, tokens], (Kind::Double, Device::Cpu))
        }
        Summary::Most(None) => weights.amax([3i64].as_slice(), false),
        Summary::Most(Some(factors)) => (weights * factors.unsqueeze(-1)).amax([3i64].as_slice(), false),
    };
    (told.view([batch, heads, tokens]), spread)
}

fn summaries_are_those_of_a_naive_softmax(kind: Kind) {
    let heads = (1i64..3, 1i64..3, 1i64..3);
    let sizes = (
        prop_oneof![0i64..4, 4i64..70, Just(130)],
        prop_oneof![0i64..4, 4i64..150, Just(600), Just(1100)],
        prop_oneof![1i64..5, 5i64..40, Just(64)],
    );
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) };
    TestRunner::new(config)
        .run(
            &(any::<u64>(), heads, sizes, any::<[bool; 4]>(), (0u8..4, 0u8..4, 0u8..3), -3..3, -5i64..5),
            |(seed, (batch, kv_heads, group), (count, tokens, width), flags, arrangements, exponent, late)| {
                let [listed, own_positions, wide_queries, at_end] = flags;
                let draw = |offset: u64, shape: &[i64], magnitude: f64, kind: Kind| {
                    random(seed.wrapping_add(offset), shape, magnitude, kind)
                };
                let query_kind = if wide_queries { Kind::Float } else { kind };
                let queries = draw(0, &[batch, kv_heads * group, count, width], 10f64.powi(exponent), query_kind);
                let keys = draw(1, &[batch, kv_heads, tokens, width], 3.0, kind);
                // Positions with gaps, ties, and keys that no query sees or that every query sees.
                let rows = if own_positions { [batch, kv_heads] } else { [1, 1] };
                let positions = (draw(2, &[rows[0], rows[1], tokens], 1.0, Kind::Float) * (tokens + count + 4))
                    .to_kind(Kind::Int64);
                let seen = Seen {
                    first: if at_end { (tokens - count).max(0) } else { 0 } + late,
                    positions: listed.then_some(&positions),
                };
                let factors = draw(3, &[count], 2.0, Kind::Float).abs();
                let summary = match arrangements.2 {
                    0 => Summary::Sum,
                    1 => Summary::Most(None),
                    _ => Summary::Most(Some(&factors)),
                };
                let (due, spread) = exact(&queries, &keys, seen, summary);
                let given = [arranged(&queries, arrangements.0), arranged(&keys, arrangements.1)];
                // A logit is off by the rounding of its sums; a weight by as much of itself, and a sum of them again.
                let off_logit = (width as f64 + 8.0) * unit(Kind::Float) * spread;
                let rounds = (count + tokens + 40) as f64 * unit(Kind::Float);
                let allowed = ((2.0 * off_logit).exp_m1() + rounds) * largest(&due).max(1e-30);
                let mut computed = vec![reference(&given[0], &given[1], seen, summary).unwrap()];
                if matches!(summary, Summary::Sum) {
                    computed.push(emulated(|machine| gpu::run(machine, &given[0], &given[1], seen).unwrap().unwrap()));
                }
                for level in Level::available().into_iter().filter(|_| !listed && seen.first >= 0) {
                    let run = || tiled::run(level, &given[0], &given[1], seen.first, summary).unwrap().unwrap();
                    let [one, three] = [1, 3].map(|threads| with_threads(threads, run));
                    prop_assert_eq!(&one, &three, "the number of threads changes the result");
                    computed.push(one);
                }
                for ours in computed {
                    let off = distance(&ours, &due);
                    prop_assert!(off <= allowed, "off by {off} of {allowed}");
                }
                Ok(())
            },
        )
        .unwrap();
}

/// Logits of 1e30, many of them equal: each query's weights still sum to one, and go to the largest alone.
#[test]
fn weights_of_immense_logits_sum_to_one() {
    let queries = Tensor::full([1, 2, 70, 4], 1e15, (Kind::Float, Device::Cpu));
    let keys = Tensor::full([1, 1, 90, 4], 1e15, (Kind::Float, Device::Cpu));
    let _ = keys.narrow(2, 40, 50).fill_(-1e15);
    let seen = Seen { first: 20, positions: None };
    let due = exact(&queries, &keys, seen, Summary::Sum).0;
    let on_a_gpu = emulated(|machine| gpu::run(machine, &queries, &keys, seen).unwrap().unwrap());
    let ours = [received, reference].map(|computed| computed(&queries, &keys, seen, Summary::Sum).unwrap());
    for ours in ours.into_iter().chain([on_a_gpu]) {
        assert!(distance(&ours, &due) < 1e-4);
        assert!((ours.sum(Kind::Double) - 140.0).abs().double_value(&[]) < 1e-3);
    }
}

/// Half-precision queries and keys whose products are beyond half precision.
#[test]
fn logits_beyond_half_precision_are_weighed() {
    let queries = random(1, &[1, 1, 3, 8], 60_000.0, Kind::Half);
    let keys = random(2, &[1, 1, 5, 8], 60_000.0, Kind::Half);
    let seen = Seen { first: 4, positions: None };
    let due = exact(&queries, &keys, seen, Summary::Sum).0;
    assert!(distance(&received(&queries, &keys, seen, Summary::Sum).unwrap(), &due) < 1e-5);
    assert!(distance(&emulated(|machine| gpu::run(machine, &queries, &keys, seen).unwrap().unwrap()), &due) < 1e-5);
}

#[test]
fn keys_or_factors_that_do_not_fit_are_refused() {
    let draw = |shape: &[i64]| random(1, shape, 1.0, Kind::Float);
    let seen = Seen { first: 0, positions: None };
    let queries = draw(&[1, 4, 3, 8]);
    let factors = [draw(&[3]), draw(&[4]), draw(&[1, 3])].map(|factors| factors.abs());
    let most = |factors| received(&queries, &draw(&[1, 2, 5, 8]), seen, Summary::Most(Some(factors)));
    assert!(most(&factors[0]).is_ok());
    assert!(most(&factors[1]).is_err() && most(&factors[2]).is_err());
    for keys in [draw(&[2, 2, 5, 8]), draw(&[1, 3, 5, 8]), draw(&[1, 2, 5, 7]), draw(&[2, 5, 8]), draw(&[1, 0, 5, 8])] {
        assert!(received(&queries, &keys, seen, Summary::Sum).is_err());
    }
}
