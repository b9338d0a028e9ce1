//! The gate on every instruction set and dtype against float64.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tch::{Kind, Tensor};

use super::{gpu, on, silu_mul};
use crate::dispatch::Level;
use crate::testing::{arranged, distance, emulated, largest, random, stamp, stamp_gpu, unit, with_threads};

stamp!(gates_are_within_rounding);
stamp_gpu!(gates_are_within_rounding_on_a_gpu);

fn exact(input: &Tensor) -> Tensor {
    let halves = input.to_kind(Kind::Double).chunk(2, 1);
    halves[0].silu() * &halves[1]
}

fn gates_are_within_rounding(level: Level, kind: Kind) {
    within_rounding(kind, &|threads, input| with_threads(threads, || on(level, input)).unwrap().unwrap());
}

fn gates_are_within_rounding_on_a_gpu(kind: Kind) {
    within_rounding(kind, &|_, input| emulated(|machine| gpu::run(machine, input).unwrap().unwrap()));
}

fn within_rounding(kind: Kind, gate: &dyn Fn(i32, &Tensor) -> Tensor) {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) };
    let width = prop_oneof![Just(0i64), 1i64..40, Just(192)];
    TestRunner::new(config)
        .run(
            &(any::<u64>(), 0i64..40, width, 0u8..4, 1i32..5, -3..3),
            |(seed, tokens, width, arrangement, threads, exponent)| {
                // Up to 100: past the point where the exponential of a float32 ends.
                let input = random(seed, &[tokens, 2 * width], 10f64.powi(exponent), kind);
                let given = arranged(&input, arrangement);
                let ours = gate(threads, &given);
                let expected = exact(&input);
                let smallest = if kind == Kind::Half { 6e-8 } else { 1e-35 };
                let allowed = (unit(kind) + 16.0 * unit(Kind::Float)) * largest(&expected) * 1.01 + smallest;
                let off = distance(&ours, &expected);
                prop_assert!(off <= allowed, "off by {off} of {allowed}");
                Ok(())
            },
        )
        .unwrap();
}

#[test]
fn large_and_non_finite_gates_are_those_of_the_formula() {
    let gates = [-1e30f32, -200.0, -88.5, 0.0, 88.5, 1e30, f32::NAN];
    let input = Tensor::from_slice(&gates).view([7, 1]);
    let input =
        Tensor::cat(&[&input.expand([7, 16], false), &Tensor::ones([7, 16], (Kind::Float, tch::Device::Cpu))], 1);
    for level in Level::available() {
        let ours = on(level, &input).unwrap().unwrap();
        for (row, gate) in gates.iter().enumerate() {
            let value = ours.double_value(&[row as i64, 0]);
            match gate {
                gate if gate.is_nan() => assert!(value.is_nan()),
                gate if *gate < -80.0 => assert!(value <= 0.0 && value > -1e-5 * f64::from(-gate), "{gate}: {value}"),
                gate => assert_eq!(value, f64::from(*gate)),
            }
        }
    }
    assert!(silu_mul(&random(1, &[2, 3], 1.0, Kind::Float)).is_err());
}
