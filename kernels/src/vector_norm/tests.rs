//! Norms of vectors against float64, and against libtorch's where they overflow.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tch::{Kind, Tensor};

use super::{gpu, l2, reference};
use crate::testing::{arranged, distance, emulated, largest, random, stamp_gpu, unit};

stamp_gpu!(norms_are_within_rounding);

fn norms_are_within_rounding(kind: Kind) {
    // Squares of more than 1e19 are beyond float32.
    let most = if kind == Kind::Half { 4 } else { 18 };
    let shape = (1i64..3, 1i64..4, 0i64..40, prop_oneof![Just(0i64), 1i64..40, Just(64), Just(128), Just(576)]);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) };
    TestRunner::new(config)
        .run(
            &(any::<u64>(), shape, 0u8..4, -3..most),
            |(seed, (batch, heads, tokens, width), arrangement, exponent)| {
                let data = random(seed, &[batch, heads, tokens, width], 10f64.powi(exponent), kind);
                let given = arranged(&data, arrangement);
                let due =
                    data.to_kind(Kind::Double).square().sum_dim_intlist([-1i64].as_slice(), false, Kind::Double).sqrt();
                let allowed = (width as f64 + 8.0) * unit(Kind::Float) * largest(&due);
                let on_a_gpu = emulated(|machine| gpu::run(machine, &given).unwrap().unwrap());
                for ours in [l2(&given).unwrap(), on_a_gpu] {
                    let off = distance(&ours, &due);
                    prop_assert!(ours.kind() == Kind::Float && off <= allowed, "off by {off} of {allowed}");
                }
                Ok(())
            },
        )
        .unwrap();
}

#[test]
fn norms_beyond_float32_are_infinite() {
    let data = Tensor::from_slice(&[1e20f32, 0.0, f32::INFINITY, 1.0, 3.0, 4.0]).view([1, 1, 3, 2]);
    let due = Tensor::from_slice(&[f32::INFINITY, f32::INFINITY, 5.0]).view([1, 1, 3]);
    assert!(reference(&data).unwrap().equal(&due));
    assert!(emulated(|machine| gpu::run(machine, &data).unwrap().unwrap()).equal(&due));
    assert!(l2(&data.get(0)).is_err());
}
