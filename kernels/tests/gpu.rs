//! The kernels on a real GPU: what they compute is what the processor computes, and how fast they read memory.
//!
//! `PRESSROOM_GPU=cuda:0` runs them (with `PRESSROOM_LIBTORCH_CUDA` naming the folder of libtorch's CUDA half), and
//! `PRESSROOM_GPU=rehearsal` does the same on the processor. Without it there is nothing to run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a panic is the message")]

use std::path::PathBuf;
use std::sync::Once;
use std::time::Instant;

use pressroom_kernels::attention::{Extent, Mask, Part, Sequence, attend_context, attend_parts, default_scale};
use pressroom_kernels::cuda::open_libtorch_cuda;
use pressroom_kernels::quantized::{Bits, Format, KeySteps, Quantized};
use pressroom_kernels::rotary::{Room, rotate_and_append};
use pressroom_kernels::{gate, norm, probe};
use tch::{Device, Kind, Tensor};

/// Where tests run; says so where they do not.
fn device() -> Option<Device> {
    static OPENED: Once = Once::new();
    match std::env::var("PRESSROOM_GPU").as_deref() {
        Ok("rehearsal") => Some(Device::Cpu),
        Ok("cuda:0") => {
            OPENED.call_once(|| {
                let folder = PathBuf::from(std::env::var_os("PRESSROOM_LIBTORCH_CUDA").unwrap());
                open_libtorch_cuda(&folder).unwrap();
            });
            Some(Device::Cuda(0))
        }
        _ => {
            println!("not run: PRESSROOM_GPU names no GPU");
            None
        }
    }
}

fn random(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind)
}

/// Largest difference, relative to the largest value.
fn difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    let wide = |data: &Tensor| data.to_device(Device::Cpu).to_kind(Kind::Double);
    let (ours, theirs) = (wide(ours), wide(theirs));
    ((&ours - &theirs).abs().max() / theirs.abs().max()).double_value(&[])
}

/// What two computations of a dtype may differ by: both round their result.
fn tolerance(kind: Kind) -> f64 {
    match kind {
        Kind::BFloat16 => 2f64.powi(-7),
        Kind::Half => 2f64.powi(-10),
        _ => 1e-5,
    }
}

const KINDS: [Kind; 3] = [Kind::Float, Kind::BFloat16, Kind::Half];

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
    let Some(device) = device() else { return };
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
    let Some(device) = device() else { return };
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
    let Some(device) = device() else { return };
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

#[test]
fn norms_gates_and_rotations_are_those_of_the_processor() {
    let Some(device) = device() else { return };
    for kind in KINDS {
        let near = |run: &dyn Fn(&[Tensor]) -> Tensor, data: &[Tensor]| {
            let there: Vec<Tensor> = data.iter().map(|data| data.to_device(device)).collect();
            let off = difference(&run(&there), &run(data));
            assert!(off <= tolerance(kind), "{kind:?}: off by {off}");
        };
        near(
            &|data| norm::rms_norm(&data[0], &data[1], 1e-5).unwrap(),
            &[random(&[7, 4096], kind), random(&[4096], kind)],
        );
        near(&|data| gate::silu_mul(&data[0]).unwrap(), &[random(&[7, 300], kind)]);
        let append = |data: &[Tensor]| {
            let cache = Tensor::zeros([2, 2, 9, 64], (data[0].kind(), data[0].device()));
            let rooms = [(0, 3), (5, 2)].map(|(first, count)| {
                let room = |side: i64| cache.get(side).narrow(1, first, count);
                Room { keys: room(0), values: room(1) }
            });
            let rotated = rotate_and_append([&data[0], &data[1], &data[2]], [&data[3], &data[4]], &rooms).unwrap();
            Tensor::cat(&[rotated.flatten(0, -1), cache.flatten(0, -1)], 0)
        };
        let rows = |heads: i64| random(&[5, heads, 64], kind);
        near(&append, &[rows(6), rows(2), rows(2), random(&[5, 64], kind), random(&[5, 64], kind)]);
    }
}

/// Prints a line of JSON for each layout: one decoded token of Llama-3.1-8B's attention, in bf16.
#[test]
fn decoding_reads_memory_at_speed() {
    let Some(device) = device() else { return };
    let (heads, kv_heads, head_dim) = (32, 8, 128);
    let (context, batch, rounds) = if device == Device::Cpu { (512, 2, 2) } else { (32_768, 8, 50) };
    let ceiling = probe::read_bandwidth_of(device, 10).unwrap();
    let make = |shape: &[i64]| Tensor::randn(shape, (Kind::BFloat16, device));
    let query = make(&[batch, heads, head_dim]);
    let caches: Vec<[Tensor; 2]> = (0..batch).map(|_| [0, 1].map(|_| make(&[kv_heads * context, head_dim]))).collect();
    let stored = |bits| {
        let format = Format { bits, group: 64, keys: KeySteps::PerChannel, hadamard: false };
        let groups: Vec<i64> = (0..=kv_heads).map(|head| head * context / 64).collect();
        let store = |[keys, values]: &[Tensor; 2]| Quantized::new(keys, values, groups.clone(), format).unwrap();
        caches.iter().map(store).collect::<Vec<_>>()
    };
    let (int8, int4, int2) = (stored(Bits::Eight), stored(Bits::Four), stored(Bits::Two));
    // Ragged: heads of a quarter to seven quarters of the mean.
    let indptr: Vec<i64> = (0..=kv_heads).map(|head| head * context * (head + kv_heads) / (2 * kv_heads)).collect();
    let dense = Extent::Uniform { capacity: context, length: context };
    let whole = (batch * kv_heads * context * head_dim * 2 * 2) as usize;
    let held = |stores: &[Quantized]| stores.iter().map(Quantized::bytes).sum();
    for (layout, bytes, sequences) in [
        ("dense", whole, caches.iter().map(|cache| of_rows(cache, dense)).collect::<Vec<_>>()),
        ("ragged", whole, caches.iter().map(|cache| of_rows(cache, Extent::Ragged(&indptr))).collect()),
        ("int8", held(&int8), int8.iter().map(of_codes).collect()),
        ("int4", held(&int4), int4.iter().map(of_codes).collect()),
        ("int2", held(&int2), int2.iter().map(of_codes).collect()),
    ] {
        let step = || attend_parts(&query, &sequences, kv_heads, default_scale(head_dim)).unwrap();
        let _ = step();
        probe::wait(device);
        let start = Instant::now();
        for _ in 0..rounds {
            let _ = step();
        }
        probe::wait(device);
        let seconds = start.elapsed().as_secs_f64() / f64::from(rounds);
        let bytes = bytes as f64;
        println!(
            "{{\"kernel\": \"attention\", \"layout\": \"{layout}\", \"dtype\": \"bf16\", \"context_tokens\": {context}, \
             \"batch\": {batch}, \"seconds\": {seconds:e}, \"bytes_per_s\": {:e}, \"bandwidth_share\": {:.3}}}",
            bytes / seconds,
            bytes / seconds / ceiling
        );
    }
}

fn of_rows<'a>([keys, values]: &'a [Tensor; 2], extent: Extent<'a>) -> Sequence<'a> {
    Sequence { queries: 1, parts: vec![Part::Rows { keys, values, extent, mask: Mask::None }] }
}

fn of_codes(store: &Quantized) -> Sequence<'_> {
    Sequence { queries: 1, parts: vec![Part::Quantized { store, channels: None }] }
}
