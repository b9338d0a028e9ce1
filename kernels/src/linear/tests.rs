//! Linear layers on every instruction set and dtype against float64.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tch::{Kind, Tensor};

use super::{linear, rows, widened};
use crate::dispatch::Level;
use crate::testing::{arranged, distance, largest, random, stamp, unit, with_threads};

stamp!(products_are_within_rounding);

fn products_are_within_rounding(level: Level, kind: Kind) {
    // Sums of half precision stay below its largest number.
    let most = if kind == Kind::Half { 1 } else { 3 };
    let extent = || prop_oneof![Just(1i64), 2i64..40, 60i64..70, Just(576)];
    let strategy = (any::<u64>(), 1i64..14, (extent(), extent()), 0u8..4, 1i32..5, -3i32..most, any::<[bool; 3]>());
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) };
    TestRunner::new(config)
        .run(&strategy, |(seed, tokens, (rows, columns), arrangement, threads, exponent, [biased, added, wide])| {
            let magnitude = 10f64.powi(exponent);
            let draw = |part: u64, shape: &[i64]| random(seed.wrapping_add(part), shape, magnitude, kind);
            let (input, weight) = (draw(0, &[tokens, columns]), draw(1, &[rows, columns]));
            let (bias, residual) = (draw(2, &[rows]), draw(3, &[tokens, rows]));
            let [i, w, r] = [&input, &weight, &residual].map(|data| arranged(data, arrangement));
            let (b, r) = (biased.then_some(&bias), added.then_some(&r));
            let output = if wide { Kind::Float } else { kind };
            let ours = with_threads(threads, || rows::product(level, &i, &w, b, r, output)).unwrap().unwrap();
            let double = |data: &Tensor| data.to_kind(Kind::Double);
            let mut expected = double(&input).matmul(&double(&weight).transpose(0, 1));
            if biased {
                expected += double(&bias);
            }
            if added {
                expected += double(&residual);
            }
            let sums =
                (columns as f64 + 4.0) * unit(Kind::Float) * (columns as f64 * magnitude * magnitude + 2.0 * magnitude);
            let smallest = if output == Kind::Half { 6e-8 } else { 1e-37 };
            let allowed = sums + unit(output) * largest(&expected) * 1.01 + smallest;
            let off = distance(&ours, &expected);
            prop_assert!(off <= allowed, "off by {off} of {allowed}");
            let off = distance(&widened(&input, &weight, b, r, output).unwrap(), &expected);
            prop_assert!(off <= allowed, "widened: off by {off} of {allowed}");
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_token_gets_the_same_bits_alone_and_in_a_batch() {
    let (input, weight) = (random(1, &[9, 576], 1.0, Kind::BFloat16), random(2, &[100, 576], 1.0, Kind::BFloat16));
    for level in Level::available() {
        let product = |input: &Tensor| rows::product(level, input, &weight, None, None, Kind::Float).unwrap().unwrap();
        let together = product(&input);
        for token in 0..9 {
            assert_eq!(product(&input.narrow(0, token, 1)), together.narrow(0, token, 1));
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let draw = |shape: &[i64]| random(1, shape, 1.0, Kind::Float);
    let (input, weight) = (draw(&[2, 8]), draw(&[5, 8]));
    assert!(linear(&input, &weight, Some(&draw(&[5])), Some(&draw(&[2, 5])), Kind::Float).is_ok());
    assert!(linear(&input, &draw(&[5, 7]), None, None, Kind::Float).is_err());
    assert!(linear(&input, &weight, Some(&draw(&[4])), None, Kind::Float).is_err());
    assert!(linear(&input, &weight, None, Some(&draw(&[1, 5])), Kind::Float).is_err());
    assert!(linear(&draw(&[8]), &weight, None, None, Kind::Float).is_err());
}
