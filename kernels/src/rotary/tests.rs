//! Rotary embedding on every instruction set and dtype against float64.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tch::{Device, Kind, Tensor};

use super::{on, reference, rotate_into};
use crate::dispatch::Level;
use crate::testing::{arranged, distance, largest, random, stamp, unit, with_threads};

stamp!(rotations_are_within_rounding);

fn rotations_are_within_rounding(level: Level, kind: Kind) {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) };
    let half = prop_oneof![1i64..40, Just(32), Just(40)];
    TestRunner::new(config)
        .run(&(any::<u64>(), (0i64..40, 1i64..5, half), 0u8..4, any::<bool>(), 1i32..5), |case| {
            let (seed, (tokens, heads, half), arrangement, by_head, threads) = case;
            let data = random(seed, &[tokens, heads, 2 * half], 3.0, kind);
            let [cos, sin] = [1, 2].map(|part| random(seed.wrapping_add(part), &[tokens, 2 * half], 1.0, kind));
            // Written to a place of its own, or by head into a longer one as of a cache.
            let room = Tensor::full([heads, tokens + 3, 2 * half], 7.0, (kind, Device::Cpu));
            let output = if by_head { room.narrow(1, 2, tokens).transpose(0, 1) } else { data.zeros_like() };
            let given = arranged(&data, arrangement);
            prop_assert!(with_threads(threads, || on(level, &given, &cos, &sin, &output)).unwrap());
            let wide = |data: &Tensor| data.to_kind(Kind::Double);
            let expected = reference(&wide(&data), &wide(&cos).unsqueeze(1), &wide(&sin).unsqueeze(1)).unwrap();
            let smallest = if kind == Kind::Half { 6e-8 } else { 0.0 };
            let allowed = unit(kind) * largest(&expected) * 1.01 + 4.0 * unit(Kind::Float) * 6.0 + smallest;
            let off = distance(&output, &expected);
            prop_assert!(off <= allowed, "off by {off} of {allowed}");
            if by_head {
                prop_assert_eq!(room.narrow(1, 0, 2).min().double_value(&[]), 7.0);
                prop_assert_eq!(room.narrow(1, tokens + 2, 1).min().double_value(&[]), 7.0);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn tables_and_outputs_that_do_not_fit_are_refused() {
    let draw = |shape: &[i64]| random(1, shape, 1.0, Kind::Float);
    let (data, table) = (draw(&[4, 2, 8]), draw(&[4, 8]));
    assert!(rotate_into(&data, &table, &table, &data.zeros_like()).is_ok());
    assert!(rotate_into(&data, &draw(&[3, 8]), &table, &data.zeros_like()).is_err());
    assert!(rotate_into(&data, &table, &table, &draw(&[4, 1, 8])).is_err());
    assert!(rotate_into(&draw(&[4, 2, 7]), &draw(&[4, 7]), &draw(&[4, 7]), &draw(&[4, 2, 7])).is_err());
}
