//! RMSNorm on every instruction set and dtype against float64.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tch::{Kind, Tensor};

use super::{gpu, on, rms_norm};
use crate::dispatch::Level;
use crate::testing::{arranged, distance, emulated, largest, random, stamp, stamp_gpu, unit, with_threads};

stamp!(norms_are_within_rounding);
stamp_gpu!(norms_are_within_rounding_on_a_gpu);

fn norms_are_within_rounding(level: Level, kind: Kind) {
    within_rounding(kind, &|threads, input, weight| {
        with_threads(threads, || on(level, input, weight, 1e-5)).unwrap().unwrap()
    });
}

fn norms_are_within_rounding_on_a_gpu(kind: Kind) {
    within_rounding(kind, &|_, input, weight| {
        emulated(|machine| gpu::run(machine, input, weight, 1e-5).unwrap().unwrap())
    });
}

fn within_rounding(kind: Kind, norm: &dyn Fn(i32, &Tensor, &Tensor) -> Tensor) {
    let most = if kind == Kind::Half { 3 } else { 15 };
    let width = prop_oneof![Just(1i64), 2i64..40, Just(576)];
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) };
    TestRunner::new(config)
        .run(
            &(any::<u64>(), 0i64..70, width, 0u8..4, 1i32..5, -3..most),
            |(seed, tokens, width, arrangement, threads, exponent)| {
                let input = random(seed, &[tokens, width], 10f64.powi(exponent), kind);
                let weight = random(seed.wrapping_add(1), &[width], 2.0, kind);
                let given = arranged(&input, arrangement);
                let ours = norm(threads, &given, &weight);
                let wide = input.to_kind(Kind::Double);
                let scale = (wide.square().mean_dim([-1i64].as_slice(), true, Kind::Double) + 1e-5).rsqrt();
                let expected = wide * scale * weight.to_kind(Kind::Double);
                let smallest = if kind == Kind::Half { 6e-8 } else { 0.0 };
                let allowed =
                    (unit(kind) + (width as f64 + 8.0) * unit(Kind::Float)) * largest(&expected) * 1.01 + smallest;
                let off = distance(&ours, &expected);
                prop_assert!(off <= allowed, "off by {off} of {allowed}");
                Ok(())
            },
        )
        .unwrap();
}

#[test]
fn a_weight_of_another_width_is_refused() {
    assert!(rms_norm(&random(1, &[2, 8], 1.0, Kind::Float), &random(1, &[7], 1.0, Kind::Float), 1e-5).is_err());
}
