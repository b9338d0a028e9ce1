//! What presses score and select with, and what a selection leaves.

use pressroom_kernels::received::{Seen, Summary, received};
use pressroom_kernels::{keep, order, quadratic, vector_norm};
use tch::{Device, Kind, Tensor};

use crate::{KINDS, device, difference, random, tolerance};

/// What one computation gives on both devices, from the same data, which are of `kind`. All arithmetic is float32 on a GPU;
/// on the processor, half precision may be rounded on the way.
fn near(what: &str, kind: Kind, run: impl Fn(&[Tensor]) -> Tensor, data: &[Tensor]) {
    let device = device();
    let there: Vec<Tensor> = data.iter().map(|data| data.to_device(device)).collect();
    let wide = |data: &Tensor| if data.kind() == kind { data.to_kind(Kind::Float) } else { data.shallow_clone() };
    let wide: Vec<Tensor> = data.iter().map(wide).collect();
    let off = difference(&run(&there), &run(&wide));
    let allowed = tolerance(if device == Device::Cpu { kind } else { Kind::Float });
    assert!(off <= allowed, "{what} of {kind:?}: off by {off} of {allowed}");
}

#[test]
fn norms_of_vectors_are_those_of_the_processor() {
    for kind in KINDS {
        for width in [128, 80, 5] {
            // Every other token, so that rows are not side by side.
            let halves = |data: &[Tensor]| vector_norm::l2(&data[0].slice(2, 0, None, 2)).unwrap();
            near(&format!("{width} channels"), kind, halves, &[random(&[2, 3, 1001, width], kind)]);
        }
    }
}

#[test]
fn quadratic_forms_are_those_of_the_processor() {
    for kind in KINDS {
        for width in [128, 80] {
            let draw = |shape: &[i64]| random(shape, Kind::Float);
            let data = [random(&[2, 2, 300, width], kind), draw(&[1, 2, 4, width, width]), draw(&[1, 2, 4, width])];
            let form = |data: &[Tensor]| quadratic::form(&data[0], &data[1], Some(&data[2])).unwrap();
            near(&format!("{width} channels"), kind, form, &data);
        }
    }
}

#[test]
fn received_attention_is_that_of_the_processor() {
    for kind in KINDS {
        let keys = random(&[2, 2, 3000, 128], kind);
        // A window at the end, pooled as snapkv does, and a context over itself.
        let window = |data: &[Tensor]| {
            let seen = Seen { first: 3000 - 64, positions: None };
            let sums = received(&data[0], &data[1], seen, Summary::Sum).unwrap();
            sums.view([2, 2, 4, -1]).mean_dim([2i64].as_slice(), false, Kind::Float).max_pool1d(5, 1, 2, 1, false)
        };
        near("a window", kind, window, &[random(&[2, 8, 64, 128], kind), keys.shallow_clone()]);
        let whole =
            |data: &[Tensor]| received(&data[0], &data[1], Seen { first: 0, positions: None }, Summary::Sum).unwrap();
        let short = keys.narrow(2, 0, 700);
        near("a context", kind, whole, &[random(&[2, 8, 700, 128], kind), short.shallow_clone()]);
        // Keys that have been compressed before are where they were.
        let late = |data: &[Tensor]| {
            received(&data[0], &data[1], Seen { first: 1400, positions: Some(&data[2]) }, Summary::Sum).unwrap()
        };
        let positions = Tensor::arange_start_step(0, 1400, 2, (Kind::Int64, Device::Cpu)).view([1, 1, 700]);
        near("kept keys", kind, late, &[random(&[2, 8, 20, 128], kind), short, positions]);
    }
}

/// Equal to the last entry: of equal scores the earlier ones are kept, wherever it is decided.
#[test]
fn what_is_kept_is_what_the_processor_keeps() {
    let device = device();
    // Few levels make ties.
    let scores = (random(&[16, 5000], Kind::Float) * 100.0).round();
    let there = scores.to_device(device);
    for count in [0, 1, 777, 5000] {
        assert_eq!(order::best(&there, count).unwrap().to_device(Device::Cpu), order::best(&scores, count).unwrap());
    }
    let counts: Vec<i64> = (0..16).map(|row| row * 333).collect();
    let among = order::among_best(&scores, &counts).unwrap();
    assert_eq!(order::among_best(&there, &counts).unwrap().to_device(Device::Cpu), among);

    let (indices, offsets) = keep::listed(&among).unwrap();
    let on_device = keep::listed(&among.to_device(device)).unwrap();
    assert_eq!((on_device.0.to_device(Device::Cpu), on_device.1), (indices.shallow_clone(), offsets.clone()));
    for kind in KINDS {
        for width in [128, 5] {
            let data = random(&[16, 5000, width], kind);
            let rows = |device| keep::rows(&data.to_device(device), &indices.to_device(device), &offsets).unwrap();
            assert_eq!(rows(device).to_device(Device::Cpu), rows(Device::Cpu), "{kind:?}, {width} channels");
        }
    }
    let beyond =
        keep::rows(&scores.to_device(device).unsqueeze(0), &(indices.to_device(device) + 5000), &[0, offsets[16]]);
    assert!(beyond.unwrap_err().to_string().contains("of 16 tokens"));
}
