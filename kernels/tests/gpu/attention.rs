//! Attention, over rows and codes, and of slices of a context.

use pressroom_kernels::attention::{Extent, Mask, Part, Sequence, attend_context, attend_parts};
use pressroom_kernels::quantized::{Bits, Format, KeySteps, Quantized};
use tch::{Device, Kind, Tensor};

use crate::{KINDS, device, difference, random, tolerance};

/// Two sequences of three new tokens, each over a ragged, a narrow and an appended part.
fn attention(data: &[Tensor], indptr: &[i64], channels: &Tensor) -> Tensor {
    let [query, keys, values, narrow_keys, narrow_values, tail_keys, tail_values] = data else { panic!("seven") };
    let sequence = || Sequence {
        queries: 3,
        parts: vec![
            Part::Rows { keys, values, extent: Extent::Ragged(indptr), mask: Mask::None },
            Part::Pruned {
                keys: narrow_keys,
                values: narrow_values,
                extent: Extent::Uniform { capacity: 50, length: 50 },
                channels,
            },
            Part::Rows {
                keys: tail_keys,
                values: tail_values,
                extent: Extent::Uniform { capacity: 40, length: 33 },
                mask: Mask::Causal,
            },
        ],
    };
    attend_parts(query, &[sequence(), sequence()], 2, 0.1).unwrap()
}

#[test]
fn attention_is_that_of_the_processor() {
    let device = device();
    for kind in KINDS {
        for head_dim in [64, 80, 128, 5] {
            let kept = (head_dim + 1) / 2;
            let channels = Tensor::arange_start_step(0, head_dim, 2, (Kind::Int64, Device::Cpu)).repeat([2, 1]);
            let data = [
                random(&[6, 8, head_dim], kind),
                random(&[1700, head_dim], kind),
                random(&[1700, head_dim], kind),
                random(&[2, 50, kept], kind),
                random(&[2, 50, head_dim], kind),
                random(&[2, 40, head_dim], kind),
                random(&[2, 40, head_dim], kind),
            ];
            let there: Vec<Tensor> = data.iter().map(|data| data.to_device(device)).collect();
            // On the processor in float32, so that only one of the two rounds.
            let wide: Vec<Tensor> = data.iter().map(|data| data.to_kind(Kind::Float)).collect();
            let indptr = [0, 1100, 1700];
            let off = difference(
                &attention(&there, &indptr, &channels.to_device(device)),
                &attention(&wide, &indptr, &channels),
            );
            // On the processor half precision is rounded more often where keys are narrow.
            let allowed = tolerance(kind) * if device == Device::Cpu { 4.0 } else { 1.0 };
            assert!(off <= allowed, "{kind:?}, head_dim {head_dim}: off by {off} of {allowed}");
        }
    }
}

/// On each device the same codes: rounding may tell two machines' apart.
fn on(device: Device, store: &Quantized) -> Quantized {
    let [keys, key_scales, values, value_scales] = store.tensors().map(|(_, data)| data.to_device(device));
    let (keys, values) = ([keys, key_scales], [values, value_scales]);
    Quantized::restore(store.format(), store.indptr().to_vec(), store.channels(), keys, values).unwrap()
}

#[test]
fn attention_over_codes_is_that_of_the_processor() {
    let device = device();
    for (bits, head_dim, keys, hadamard) in [
        (Bits::Four, 128, KeySteps::PerChannel, false),
        (Bits::Eight, 128, KeySteps::PerChannel, false),
        (Bits::Two, 64, KeySteps::PerToken, true),
        (Bits::Four, 80, KeySteps::PerToken, true),
    ] {
        let rows = || random(&[21 * 64, head_dim], Kind::Float);
        let format = Format { bits, group: 64, keys, hadamard };
        let store = Quantized::new(&rows(), &rows(), vec![0, 9, 21], format).unwrap();
        for kind in KINDS {
            let query = random(&[5, 8, head_dim], kind);
            let attend = |query: &Tensor, store: &Quantized| {
                let sequence = |queries| Sequence { queries, parts: vec![Part::Quantized { store, channels: None }] };
                attend_parts(query, &[sequence(1), sequence(4)], 2, 0.1).unwrap()
            };
            let there = attend(&query.to_device(device), &on(device, &store));
            let off = difference(&there, &attend(&query.to_kind(Kind::Float), &store));
            let allowed = tolerance(kind);
            assert!(off <= allowed, "{bits:?} {kind:?}, head_dim {head_dim}: off by {off} of {allowed}");
        }
    }
}

#[test]
fn a_slice_of_a_context_is_that_of_the_processor() {
    let device = device();
    for kind in KINDS {
        let data = [(8, 70), (2, 300), (2, 300)].map(|(heads, tokens)| random(&[heads, tokens, 128], kind));
        let attend = |[queries, keys, values]: [Tensor; 3]| attend_context(&queries, &keys, &values).unwrap();
        // Keys that there is room behind, as while a context is being read.
        let room = |data: &Tensor| Tensor::cat(&[data, data], 1).to_device(device).narrow(1, 0, data.size()[1]);
        let off = difference(
            &attend(data.each_ref().map(room)),
            &attend(data.each_ref().map(|data| data.to_kind(Kind::Float))),
        );
        // Weights of half precision are rounded before they meet the values.
        let allowed = 2.0 * tolerance(kind);
        assert!(off <= allowed, "{kind:?}: off by {off} of {allowed}");
    }
}
