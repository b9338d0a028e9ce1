//! Quadratic forms against float64.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tch::{Kind, Tensor};

use super::{form, gpu};
use crate::testing::{arranged, distance, emulated, largest, random, stamp_gpu, unit};

stamp_gpu!(forms_are_within_rounding);

fn forms_are_within_rounding(kind: Kind) {
    let width = prop_oneof![0i64..4, 4i64..40, Just(64), 65i64..100];
    let shape = (1i64..3, 1i64..3, 1i64..4, prop_oneof![0i64..4, 4i64..150], width);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) };
    TestRunner::new(config)
        .run(
            &(any::<u64>(), shape, any::<[bool; 2]>(), 0u8..4, -2..5),
            |(seed, (batch, kv_heads, group, tokens, width), [shared, with_linear], arrangement, exponent)| {
                let magnitude = if kind == Kind::Half { 4 } else { 10 }.min(2 * exponent);
                let vectors = random(seed, &[batch, kv_heads, tokens, width], 10f64.powi(magnitude), kind);
                let own = if shared { 1 } else { batch };
                let draw = |offset: u64, shape: &[i64]| random(seed.wrapping_add(offset), shape, 3.0, Kind::Float);
                let matrices = draw(1, &[own, kv_heads, group, width, width]);
                let linear = with_linear.then(|| draw(2, &[own, kv_heads, group, width]));
                let given = arranged(&vectors, arrangement);

                let exact = |absolute: bool| {
                    let wide = |data: &Tensor| {
                        let wide = data.to_kind(Kind::Double);
                        if absolute { wide.abs() } else { wide }
                    };
                    let x = wide(&vectors).unsqueeze(2);
                    let forms = (x.matmul(&wide(&matrices).transpose(3, 4)) * &x).sum_dim_intlist(
                        [-1i64].as_slice(),
                        false,
                        Kind::Double,
                    );
                    linear.as_ref().map_or(forms.shallow_clone(), |linear| {
                        forms + (x * wide(linear).unsqueeze(3)).sum_dim_intlist([-1i64].as_slice(), false, Kind::Double)
                    })
                };
                // Every product and every sum rounds, relative to what is summed.
                let allowed = 2.0 * (width as f64 + 8.0) * unit(Kind::Float) * largest(&exact(true));
                let on_a_gpu =
                    emulated(|machine| gpu::run(machine, &given, &matrices, linear.as_ref()).unwrap().unwrap());
                for ours in [form(&given, &matrices, linear.as_ref()).unwrap(), on_a_gpu] {
                    let off = distance(&ours, &exact(false));
                    prop_assert!(off <= allowed, "off by {off} of {allowed}");
                }
                Ok(())
            },
        )
        .unwrap();
}

#[test]
fn matrices_of_other_heads_or_widths_are_refused() {
    let draw = |shape: &[i64]| random(1, shape, 1.0, Kind::Float);
    let (vectors, matrices) = (draw(&[2, 3, 5, 4]), draw(&[1, 3, 2, 4, 4]));
    assert!(form(&vectors, &matrices, Some(&draw(&[2, 3, 2, 4]))).is_ok());
    for matrices in [draw(&[3, 3, 2, 4, 4]), draw(&[1, 2, 2, 4, 4]), draw(&[1, 3, 2, 4, 5]), draw(&[3, 2, 4, 4])] {
        assert!(form(&vectors, &matrices, None).is_err());
    }
    for linear in [draw(&[1, 3, 1, 4]), draw(&[1, 3, 2, 5]), draw(&[3, 2, 4])] {
        assert!(form(&vectors, &matrices, Some(&linear)).is_err());
    }
}
