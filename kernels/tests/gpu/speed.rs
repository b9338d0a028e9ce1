//! How fast kernels read memory: a line of JSON for each, of Llama-3.1-8B's shapes in bf16.

use std::time::Instant;

use pressroom_kernels::attention::{Extent, Mask, Part, Sequence, attend_context, attend_parts, default_scale};
use pressroom_kernels::quantized::{Bits, Format, KeySteps, Quantized};
use pressroom_kernels::received::{Seen, Summary, received};
use pressroom_kernels::{keep, order, probe, quadratic, vector_norm};
use tch::{Device, Kind, Tensor};

use crate::device;

const HEADS: i64 = 32;
const KV_HEADS: i64 = 8;
const HEAD_DIM: i64 = 128;

/// The size that is measured, and what it is measured by.
struct Bench {
    device: Device,
    context: i64,
    batch: i64,
    rounds: u32,
    /// Bytes a second that memory gives.
    ceiling: f64,
}

impl Bench {
    /// Of a batch on a GPU; of something small where this is rehearsed.
    fn of(batch: i64) -> Self {
        let device = device();
        let (context, batch, rounds) = if device == Device::Cpu { (512, batch.min(2), 2) } else { (32_768, batch, 50) };
        Self { device, context, batch, rounds, ceiling: probe::read_bandwidth_of(device, 10).unwrap() }
    }

    fn random(&self, shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::BFloat16, self.device))
    }

    /// Prints what a step takes that cannot but read or write `bytes`.
    fn measure(&self, kernel: &str, layout: &str, bytes: usize, step: impl Fn() -> Tensor) {
        let _ = step();
        probe::wait(self.device);
        let start = Instant::now();
        for _ in 0..self.rounds {
            let _ = step();
        }
        probe::wait(self.device);
        let seconds = start.elapsed().as_secs_f64() / f64::from(self.rounds);
        let speed = bytes as f64 / seconds;
        println!(
            "{{\"kernel\": \"{kernel}\", \"layout\": \"{layout}\", \"dtype\": \"bf16\", \"context_tokens\": {}, \
             \"batch\": {}, \"seconds\": {seconds:e}, \"bytes_per_s\": {speed:e}, \"bandwidth_share\": {:.3}}}",
            self.context,
            self.batch,
            speed / self.ceiling
        );
    }
}

fn bytes_of(tensors: &[&Tensor]) -> usize {
    tensors.iter().map(|data| data.numel() * data.kind().elt_size_in_bytes()).sum()
}

/// One decoded token.
#[test]
fn decoding_reads_memory_at_speed() {
    let bench = Bench::of(8);
    let (context, batch) = (bench.context, bench.batch);
    let query = bench.random(&[batch, HEADS, HEAD_DIM]);
    let side = || bench.random(&[KV_HEADS * context, HEAD_DIM]);
    let caches: Vec<[Tensor; 2]> = (0..batch).map(|_| [side(), side()]).collect();
    let stored = |bits| {
        let format = Format { bits, group: 64, keys: KeySteps::PerChannel, hadamard: false };
        let groups: Vec<i64> = (0..=KV_HEADS).map(|head| head * context / 64).collect();
        let store = |[keys, values]: &[Tensor; 2]| Quantized::new(keys, values, groups.clone(), format).unwrap();
        caches.iter().map(store).collect::<Vec<_>>()
    };
    let (int8, int4, int2) = (stored(Bits::Eight), stored(Bits::Four), stored(Bits::Two));
    // Ragged: heads of a quarter to seven quarters of the mean.
    let indptr: Vec<i64> = (0..=KV_HEADS).map(|head| head * context * (head + KV_HEADS) / (2 * KV_HEADS)).collect();
    let dense = Extent::Uniform { capacity: context, length: context };
    let whole = caches.iter().map(|[keys, values]| bytes_of(&[keys, values])).sum();
    let held = |stores: &[Quantized]| stores.iter().map(Quantized::bytes).sum();
    for (layout, bytes, sequences) in [
        ("dense", whole, caches.iter().map(|cache| of_rows(cache, dense)).collect::<Vec<_>>()),
        ("ragged", whole, caches.iter().map(|cache| of_rows(cache, Extent::Ragged(&indptr))).collect()),
        ("int8", held(&int8), int8.iter().map(of_codes).collect()),
        ("int4", held(&int4), int4.iter().map(of_codes).collect()),
        ("int2", held(&int2), int2.iter().map(of_codes).collect()),
    ] {
        bench.measure("attention", layout, bytes, || {
            attend_parts(&query, &sequences, KV_HEADS, default_scale(HEAD_DIM)).unwrap()
        });
    }
}

fn of_rows<'a>([keys, values]: &'a [Tensor; 2], extent: Extent<'a>) -> Sequence<'a> {
    Sequence { queries: 1, parts: vec![Part::Rows { keys, values, extent, mask: Mask::None }] }
}

fn of_codes(store: &Quantized) -> Sequence<'_> {
    Sequence { queries: 1, parts: vec![Part::Quantized { store, channels: None }] }
}

/// What presses do with a layer of one context. Products of matrices are bound by arithmetic, not by memory.
#[test]
fn scoring_and_selection_read_memory_at_speed() {
    let bench = Bench::of(1);
    let context = bench.context;
    let keys = bench.random(&[1, KV_HEADS, context, HEAD_DIM]);
    let all = bytes_of(&[&keys]);
    bench.measure("vector_norm", "dense", all, || vector_norm::l2(&keys).unwrap());
    let group = HEADS / KV_HEADS;
    let matrices = Tensor::randn([1, KV_HEADS, group, HEAD_DIM, HEAD_DIM], (Kind::Float, bench.device));
    bench.measure("quadratic", "dense", all, || quadratic::form(&keys, &matrices, None).unwrap());
    let window = bench.random(&[1, HEADS, 64, HEAD_DIM]);
    let seen = Seen { first: context - 64, positions: None };
    bench.measure("received", "window of 64", all, || received(&window, &keys, seen, Summary::Sum).unwrap());
    let queries = bench.random(&[1, HEADS, context, HEAD_DIM]);
    let seen = Seen { first: 0, positions: None };
    bench.measure("received", "whole context", all, || received(&queries, &keys, seen, Summary::Sum).unwrap());
    let slice = queries.get(0).narrow(1, context - context / 16, context / 16);
    bench.measure("attend_context", "last sixteenth", 2 * all, || {
        attend_context(&slice, &keys.get(0), &keys.get(0)).unwrap()
    });

    let scores = Tensor::randn([KV_HEADS, context], (Kind::Float, bench.device));
    bench.measure("order", "best half", bytes_of(&[&scores]), || order::best(&scores, context / 2).unwrap());
    let kept = order::best(&scores, context / 2).unwrap().flatten(0, -1);
    let offsets: Vec<i64> = (0..=KV_HEADS).map(|head| head * (context / 2)).collect();
    // Half of them read, and as much written.
    bench.measure("keep", "best half", all, || keep::rows(&keys.get(0), &kept, &offsets).unwrap());
}
