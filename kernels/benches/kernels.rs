//! Kernels at the shapes of SmolLM2-135M, with bytes or operations a second; the memory's speed comes first.
#![allow(clippy::unwrap_used, reason = "in a benchmark a panic is the message")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pressroom_kernels::attention::{Extent, Mask, Part, Sequence, attend_context, attend_parts};
use pressroom_kernels::quantized::{Bits, Format, KeySteps, Quantized};
use pressroom_kernels::{linear, probe};
use tch::{Device, Kind, Tensor};

/// Shape of SmolLM2-135M's attention.
const HEADS: i64 = 9;
const KV_HEADS: i64 = 3;
const HEAD_DIM: i64 = 64;

fn random(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::rand(shape, (Kind::Float, Device::Cpu)).to_kind(kind)
}

fn bytes(tensors: &[&Tensor]) -> Throughput {
    Throughput::Bytes(
        tensors.iter().map(|tensor| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum::<usize>() as u64
    )
}

/// Every round takes other weights, as in a model: they come from memory, not from a cache.
fn products(criterion: &mut Criterion) {
    println!(
        "memory is read at {:.1} GB/s by {} threads",
        probe::read_bandwidth(5).unwrap() / 1e9,
        tch::get_num_threads()
    );
    let mut group = criterion.benchmark_group("linear");
    for kind in [Kind::BFloat16, Kind::Float] {
        for (rows, columns) in [(960, 576), (3072, 576), (576, 1536), (49152, 576)] {
            let copies = 128_000_000 / (rows * columns * 2) + 1;
            let weights: Vec<Tensor> = (0..copies).map(|_| random(&[rows, columns], kind)).collect();
            for tokens in [1, 4, 8, 16, 32] {
                let input = random(&[tokens, columns], kind);
                let mut turn = 0;
                group.throughput(bytes(&[&weights[0]]));
                let id = BenchmarkId::new(format!("{kind:?} {rows}x{columns}"), tokens);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| {
                        turn = (turn + 1) % weights.len();
                        black_box(linear::linear(&input, &weights[turn], None, None, kind).unwrap())
                    })
                });
            }
        }
    }
    group.finish();
}

fn streamed_attention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention of one token");
    for kind in [Kind::BFloat16, Kind::Float] {
        for tokens in [1024, 4096] {
            let caches: Vec<[Tensor; 2]> =
                (0..30).map(|_| [(); 2].map(|()| random(&[KV_HEADS, tokens, HEAD_DIM], kind))).collect();
            let query = random(&[1, HEADS, HEAD_DIM], kind);
            let mut turn = 0;
            group.throughput(bytes(&[&caches[0][0], &caches[0][1]]));
            group.bench_function(BenchmarkId::new(format!("{kind:?}"), tokens), |bencher| {
                bencher.iter(|| {
                    turn = (turn + 1) % caches.len();
                    let [keys, values] = &caches[turn];
                    let extent = Extent::Uniform { capacity: tokens, length: tokens };
                    let parts = vec![Part::Rows { keys, values, extent, mask: Mask::None }];
                    black_box(attend_parts(&query, &[Sequence { queries: 1, parts }], KV_HEADS, 0.125).unwrap())
                })
            });
        }
    }
    group.finish();
}

/// Bytes are those of the codes and scales.
fn quantized_attention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention of one token over codes");
    for (bits, tokens) in Bits::ALL.into_iter().flat_map(|bits| [(bits, 1024), (bits, 4096)]) {
        let format = Format { bits, group: 64, keys: KeySteps::PerChannel, hadamard: false };
        let indptr: Vec<i64> = (0..=KV_HEADS).map(|head| head * tokens / 64).collect();
        let rows = || random(&[KV_HEADS * tokens, HEAD_DIM], Kind::BFloat16);
        let stores: Vec<Quantized> =
            (0..30).map(|_| Quantized::new(&rows(), &rows(), indptr.clone(), format).unwrap()).collect();
        let query = random(&[1, HEADS, HEAD_DIM], Kind::BFloat16);
        let mut turn = 0;
        group.throughput(Throughput::Bytes(stores[0].bytes() as u64));
        group.bench_function(BenchmarkId::new(format!("{bits:?}"), tokens), |bencher| {
            bencher.iter(|| {
                turn = (turn + 1) % stores.len();
                let parts = vec![Part::Quantized { store: &stores[turn], channels: None }];
                black_box(attend_parts(&query, &[Sequence { queries: 1, parts }], KV_HEADS, 0.125).unwrap())
            })
        });
    }
    group.finish();
}

fn context_attention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention of a context");
    for kind in [Kind::BFloat16, Kind::Float] {
        for tokens in [1024, 4096] {
            let queries = random(&[HEADS, tokens, HEAD_DIM], kind);
            let [keys, values] = [(); 2].map(|()| random(&[KV_HEADS, tokens, HEAD_DIM], kind));
            // Elements here are floating-point operations: a product and a sum for logits, and again for values.
            group.throughput(Throughput::Elements((HEADS * tokens * (tokens + 1) / 2 * HEAD_DIM * 4) as u64));
            group.bench_function(BenchmarkId::new(format!("{kind:?}"), tokens), |bencher| {
                bencher.iter(|| black_box(attend_context(&queries, &keys, &values).unwrap()))
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = kernels;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500));
    targets = products, streamed_attention, quantized_attention, context_attention
}
criterion_main!(kernels);
