//! Attention on every instruction set and dtype against the softmax in float64.

mod blocks;
mod flash;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tch::{Device, Kind, Tensor};

use super::{Extent, Mask, Part, Sequence, context, gpu, parts};
use crate::dispatch::Level;
use crate::testing::{arranged, distance, emulated, largest, misaligned, random, stamp, unit, with_threads};

stamp!(parts_are_the_softmax_over_their_union, a_context_is_the_causal_softmax, extremes_stay_within_the_values);

fn check<S: Strategy>(cases: u32, strategy: S, body: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    TestRunner::new(config).run(&strategy, body).unwrap();
}

/// Softmax attention in float64 of `query` `[heads, queries, dim]` over `keys` `[tokens, dim]` of each KV head;
/// query `i` of `n` sees all but the last `n - 1 - i` of the last `causal` keys. Gives `[queries, heads * dim]`.
fn exact(query: &Tensor, keys: &[Tensor], values: &[Tensor], causal: bool, scale: f64) -> Tensor {
    let (heads, queries, dim) = query.size3().unwrap();
    let group = heads / keys.len() as i64;
    let outputs: Vec<Tensor> = (0..heads)
        .map(|head| {
            let own = |data: &[Tensor]| data[(head / group) as usize].to_kind(Kind::Double);
            let (keys, values) = (own(keys), own(values));
            let tokens = keys.size()[0];
            if tokens == 0 {
                return Tensor::zeros([queries, dim], (Kind::Double, Device::Cpu));
            }
            let logits = query.get(head).to_kind(Kind::Double).matmul(&keys.transpose(0, 1)) * scale;
            let hidden = Tensor::ones([queries, tokens], (Kind::Bool, Device::Cpu)).triu(tokens - queries + 1);
            let logits = if causal { logits.masked_fill(&hidden, f64::NEG_INFINITY) } else { logits };
            // Where a query sees nothing, the softmax is NaN and ours zero.
            logits.softmax(-1, Kind::Double).nan_to_num(0.0, None, None).matmul(&values)
        })
        .collect();
    Tensor::stack(&outputs, 1).view([queries, heads * dim])
}

/// What rounding allows: the output's, the weights' where they are rounded, and that of logits and sums in float32.
fn bound(kind: Kind, query: &Tensor, keys: &[Tensor], values: &[Tensor], scale: f64) -> f64 {
    let dim = *query.size().last().unwrap() as f64;
    let tokens = keys.iter().map(|keys| keys.size()[0]).max().unwrap_or(0) as f64;
    let most = |tensors: &[Tensor]| tensors.iter().map(largest).fold(0.0, f64::max);
    let float = unit(Kind::Float);
    // Every term of a dot product may be off by its rounding and that of the sums it goes through.
    let logit = (dim + 4.0) * float * dim * largest(query) * most(keys) * scale;
    let weights = (2.0 * logit).exp_m1() + (tokens + 16.0) * float;
    (2.0 * unit(kind) + weights) * most(values) * 1.01 + f64::MIN_POSITIVE + if kind == Kind::Half { 6e-8 } else { 0.0 }
}

/// `[kv_heads, capacity, dim]` storage whose first `length` rows are given.
fn with_room(rows: &[Tensor], capacity: i64) -> Tensor {
    let dim = rows[0].size()[1];
    let store = Tensor::full([rows.len() as i64, capacity, dim], 7.0, (rows[0].kind(), Device::Cpu));
    for (head, rows) in rows.iter().enumerate() {
        store.get(head as i64).narrow(0, 0, rows.size()[0]).copy_(rows);
    }
    store
}

fn parts_are_the_softmax_over_their_union(level: Level, kind: Kind) {
    let shape = (1i64..4, 1i64..6, prop_oneof![Just(64i64), Just(80), 1i64..40], 1i64..6, 0i64..9);
    // On the processor, narrow keys are attended to as the reference does, which rounds half precision more often.
    let narrow = if kind == Kind::Float { 40 } else { 0 };
    union(24, kind, shape, narrow, &|threads, query, sequences, kv_heads, scale| {
        with_threads(threads, || parts::on(level, query, sequences, kv_heads, scale)).unwrap().unwrap()
    });
}

/// The kernels of a GPU, with as few shapes as show what can differ: each is compiled.
mod on_a_gpu {
    use super::*;

    fn parts_are_the_softmax_over_their_union(kind: Kind, dims: impl Strategy<Value = i64>) {
        let shape = (1i64..3, prop_oneof![Just(1i64), Just(3)], dims, prop_oneof![Just(1i64), Just(4)], 0i64..9);
        union(10, kind, shape, 40, &|_, query, sequences, kv_heads, scale| {
            emulated(|machine| gpu::attend(machine, query, sequences, kv_heads, scale).unwrap().unwrap())
        });
    }

    #[test]
    fn block_by_block_in_plain_rust() {
        let shape = (1i64..4, 1i64..6, prop_oneof![Just(64i64), Just(80), 1i64..40], 1i64..6, 0i64..9);
        union(24, Kind::Float, shape, 40, &|_, query, sequences, kv_heads, scale| {
            blocks::attend(query, sequences, kv_heads, scale)
        });
    }

    #[test]
    fn f32() {
        parts_are_the_softmax_over_their_union(Kind::Float, prop_oneof![Just(64i64), Just(5)]);
    }

    #[test]
    fn bf16() {
        parts_are_the_softmax_over_their_union(Kind::BFloat16, Just(80));
    }

    #[test]
    fn f16() {
        parts_are_the_softmax_over_their_union(Kind::Half, Just(64));
    }
}

/// Attention of sequences by some implementation: threads, query, sequences, KV heads and scale are given.
type Attend<'a> = &'a dyn Fn(i32, &Tensor, &[Sequence<'_>], i64, f64) -> Tensor;

/// Two sequences, each with a ragged prefix, `narrow` keys of fewer channels, as many rows in every head, and a tail with
/// room to grow. A shape is KV heads, query heads of each, head_dim, queries, and tokens of the tail before them.
fn union(
    cases: u32,
    kind: Kind,
    shape: impl Strategy<Value = (i64, i64, i64, i64, i64)>,
    narrow: i64,
    attend: Attend<'_>,
) {
    let lengths = prop_oneof![Just(0i64), Just(1), 2i64..20, 60i64..70, Just(513), Just(1100)];
    check(
        cases,
        (any::<u64>(), shape, [lengths.clone(), lengths.clone(), lengths], 0u8..4, 1i32..5, 0.01f64..4.0),
        |case| {
            let (seed, (kv_heads, group, dim, queries, before), lengths, arrangement, threads, magnitude) = case;
            let (heads, scale) = (kv_heads * group, 0.3);
            let length = |head: i64, sequence: i64| lengths[((head + sequence) % 3) as usize];
            let part = |sequence: i64, which: u64, length: &dyn Fn(i64) -> i64| -> [Vec<Tensor>; 2] {
                [0u64, 1].map(|side| {
                    (0..kv_heads)
                        .map(|head| {
                            let seed = seed.wrapping_add(
                                1 + which * 100 + side * 10 + sequence as u64 * 1000 + head as u64 * 7919,
                            );
                            random(seed, &[length(head), dim], if side == 0 { magnitude } else { 1.0 }, kind)
                        })
                        .collect()
                })
            };
            let ragged = [0, 1].map(|sequence| part(sequence, 0, &|head| length(head, sequence)));
            let dense = [0, 1].map(|sequence| part(sequence, 1, &|_| 3));
            let tails = [0, 1].map(|sequence| part(sequence, 2, &|_| before + queries + sequence));
            // Every other channel of keys; the others are zero in the union.
            let kept = Tensor::arange_start_step(0, dim, 2, (Kind::Int64, Device::Cpu));
            let channels = kept.unsqueeze(0).repeat([kv_heads, 1]);
            let even = (Tensor::arange(dim, (Kind::Int64, Device::Cpu)) + 1).remainder(2);
            let pruned = [0, 1].map(|sequence| {
                let [keys, values] = part(sequence, 3, &|_| narrow);
                [keys.iter().map(|keys| keys * even.to_kind(kind)).collect(), values]
            });
            let stored = pruned.each_ref().map(|[keys, values]: &[Vec<Tensor>; 2]| {
                [Tensor::stack(keys, 0).index_select(2, &kept), Tensor::stack(values, 0)]
            });
            let new = |sequence: i64| queries + sequence;
            let query = random(seed, &[2 * queries + 1, heads, dim], magnitude, kind);
            let own = |sequence: i64| query.narrow(0, sequence * queries, new(sequence)).transpose(0, 1);

            let even_rows = dense.each_ref().map(|sides| sides.each_ref().map(|rows| Tensor::stack(rows, 0)));
            let flat = ragged.each_ref().map(|sides| sides.each_ref().map(|rows| misaligned(&Tensor::cat(rows, 0))));
            let indptr = [0, 1].map(|sequence| {
                (0..kv_heads)
                    .scan(0, |end, head| {
                        *end += length(head, sequence);
                        Some(*end)
                    })
                    .fold(vec![0], |mut all, end| {
                        all.push(end);
                        all
                    })
            });
            let rooms =
                tails.each_ref().map(|sides| sides.each_ref().map(|rows| with_room(rows, before + queries + 5)));
            let sequences: Vec<Sequence<'_>> = [0usize, 1]
                .into_iter()
                .map(|index| {
                    let extent =
                        Extent::Uniform { capacity: before + queries + 5, length: before + queries + index as i64 };
                    Sequence {
                        queries: new(index as i64),
                        parts: vec![
                            Part::Rows {
                                keys: &flat[index][0],
                                values: &flat[index][1],
                                extent: Extent::Ragged(&indptr[index]),
                                mask: Mask::None,
                            },
                            Part::Pruned {
                                keys: &stored[index][0],
                                values: &stored[index][1],
                                extent: Extent::Uniform { capacity: narrow, length: narrow },
                                channels: &channels,
                            },
                            Part::Rows {
                                keys: &even_rows[index][0],
                                values: &even_rows[index][1],
                                extent: Extent::Uniform { capacity: 3, length: 3 },
                                mask: Mask::None,
                            },
                            Part::Rows { keys: &rooms[index][0], values: &rooms[index][1], extent, mask: Mask::Causal },
                        ],
                    }
                })
                .collect();
            let arranged = arranged(&query, arrangement);
            let ours = attend(threads, &arranged, &sequences, kv_heads, scale);
            let by_states = parts::by_states(&query, &sequences, scale).unwrap();

            for sequence in [0i64, 1] {
                let index = sequence as usize;
                // Keys in an order that makes the union causal: what all queries see first.
                let union = |side: usize| -> Vec<Tensor> {
                    (0..kv_heads as usize)
                        .map(|head| {
                            let parts = [&ragged, &pruned, &dense, &tails].map(|part| &part[index][side][head]);
                            Tensor::cat(&parts, 0)
                        })
                        .collect()
                };
                let (keys, values) = (union(0), union(1));
                let expected = exact(&own(sequence), &keys, &values, true, scale);
                let off = |output: &Tensor| distance(&output.narrow(0, sequence * queries, new(sequence)), &expected);
                let allowed = bound(kind, &query, &keys, &values, scale);
                prop_assert!(off(&ours) <= allowed, "off by {} of {allowed}", off(&ours));
                // The reference rounds logits and weights of half precision too.
                if kind == Kind::Float {
                    prop_assert!(
                        off(&by_states) <= allowed,
                        "the reference is off by {} of {allowed}",
                        off(&by_states)
                    );
                }
            }
            Ok(())
        },
    );
}

fn a_context_is_the_causal_softmax(level: Level, kind: Kind) {
    let tokens = prop_oneof![Just(0i64), Just(1), 2i64..20, 95i64..98, 127i64..131, 250i64..300];
    // Tokens before those of the queries.
    let before = prop_oneof![Just(0i64), 0i64..200];
    let shape = (1i64..3, 1i64..4, prop_oneof![Just(64i64), Just(80), Just(128), 1i64..40], tokens, before);
    check(24, (any::<u64>(), shape, 0u8..4, 1i32..5, 0.01f64..4.0), |case| {
        let (seed, (kv_heads, group, dim, tokens, before), arrangement, threads, magnitude) = case;
        let queries = random(seed, &[kv_heads * group, tokens, dim], magnitude, kind);
        let keys = random(seed.wrapping_add(1), &[kv_heads, before + tokens, dim], magnitude, kind);
        let values = random(seed.wrapping_add(2), &[kv_heads, before + tokens, dim], 1.0, kind);
        let [q, k, v] = [&queries, &keys, &values].map(|data| arranged(data, arrangement));
        let ours = with_threads(threads, || context::on(level, &q, &k, &v)).unwrap().unwrap();
        let split = |data: &Tensor| (0..kv_heads).map(|head| data.get(head)).collect::<Vec<_>>();
        let scale = super::default_scale(dim);
        let expected = exact(&queries, &split(&keys), &split(&values), true, scale);
        let (off, allowed) = (distance(&ours, &expected), bound(kind, &queries, &split(&keys), &split(&values), scale));
        prop_assert!(off <= allowed, "off by {off} of {allowed}");
        if kind == Kind::Float && tokens > 0 {
            let off = distance(&context::reference(&q, &k, &v).unwrap(), &expected);
            prop_assert!(off <= allowed, "the reference is off by {off} of {allowed}");
        }
        Ok(())
    });
}

/// With logits up to the limits of the dtype the weights are whatever rounding makes of them, but they are weights.
fn extremes_stay_within_the_values(level: Level, kind: Kind) {
    let most = if kind == Kind::Half { 6e4 } else { 1e15 };
    check(16, (any::<u64>(), 1i64..200, 0i32..30), |(seed, tokens, exponent)| {
        let magnitude = (most * 10f64.powi(-exponent)).max(if kind == Kind::Half { 1e-6 } else { 1e-30 });
        let draw = |part: u64, heads: i64, magnitude: f64| {
            random(seed.wrapping_add(part), &[heads, tokens, 64], magnitude, kind)
        };
        let (queries, keys, values) = (draw(0, 4, magnitude), draw(1, 2, magnitude), draw(2, 2, 1e4));
        let context = context::on(level, &queries, &keys, &values).unwrap().unwrap();
        let extent = Extent::Uniform { capacity: tokens, length: tokens };
        let rows = Part::Rows { keys: &keys, values: &values, extent, mask: Mask::Causal };
        let sequence = Sequence { queries: tokens, parts: vec![rows] };
        let streamed = parts::on(level, &queries.transpose(0, 1), &[sequence], 2, 0.125).unwrap().unwrap();
        let allowed = largest(&values) * (1.0 + 3.0 * unit(kind));
        for output in [context, streamed] {
            prop_assert!(output.isfinite().all().int64_value(&[]) == 1, "{magnitude}");
            prop_assert!(largest(&output) <= allowed, "{} of {allowed}", largest(&output));
        }
        Ok(())
    });
}

#[test]
fn sequences_without_queries_or_keys_give_zeros() {
    for level in Level::available() {
        let empty = Tensor::zeros([2, 0, 8], (Kind::Float, Device::Cpu));
        let extent = Extent::Uniform { capacity: 0, length: 0 };
        let query = random(1, &[3, 4, 8], 1.0, Kind::Float);
        let rows = || Part::Rows { keys: &empty, values: &empty, extent, mask: Mask::None };
        let sequences =
            [Sequence { queries: 0, parts: vec![rows()] }, Sequence { queries: 3, parts: vec![rows(), rows()] }];
        let output = parts::on(level, &query, &sequences, 2, 0.5).unwrap().unwrap();
        assert_eq!(output.size(), [3, 32]);
        assert_eq!(largest(&output), 0.0);
    }
}

#[test]
fn the_number_of_threads_and_the_batch_change_no_bit() {
    let draw = |seed: u64, tokens: i64| random(seed, &[3, tokens, 64], 1.0, Kind::BFloat16);
    let caches: Vec<[Tensor; 2]> = (0..3).map(|index| [draw(index, 2000), draw(index + 9, 2000)]).collect();
    let query = random(77, &[3, 9, 64], 1.0, Kind::BFloat16);
    let extent = Extent::Uniform { capacity: 2000, length: 1999 };
    let sequence = |index: usize| {
        let [keys, values] = &caches[index];
        Sequence { queries: 1, parts: vec![Part::Rows { keys, values, extent, mask: Mask::Causal }] }
    };
    let together = with_threads(3, || super::attend_parts(&query, &[0, 1, 2].map(sequence), 3, 0.125).unwrap());
    for index in 0..3 {
        let own = query.narrow(0, index, 1);
        let alone = with_threads(1, || super::attend_parts(&own, &[sequence(index as usize)], 3, 0.125).unwrap());
        assert_eq!(alone, together.narrow(0, index, 1));
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let query = random(1, &[1, 4, 8], 1.0, Kind::Float);
    let keys = random(2, &[2, 5, 8], 1.0, Kind::Float);
    let attend = |queries: i64, kv_heads: i64, extent: Extent<'_>| {
        let rows = Part::Rows { keys: &keys, values: &keys, extent, mask: Mask::None };
        super::attend_parts(&query, &[Sequence { queries, parts: vec![rows] }], kv_heads, 0.5)
    };
    let whole = Extent::Uniform { capacity: 5, length: 5 };
    assert!(attend(1, 2, whole).is_ok());
    assert!(attend(2, 2, whole).is_err());
    assert!(attend(1, 3, whole).is_err());
    assert!(attend(1, 2, Extent::Uniform { capacity: 5, length: 6 }).is_err());
    assert!(attend(1, 2, Extent::Ragged(&[0, 5])).is_err());
    assert!(attend(1, 2, Extent::Ragged(&[0, 5, 11])).is_err());
    assert!(attend(1, 2, Extent::Ragged(&[-3, 5, 10])).is_err());
    assert!(attend(1, 2, Extent::Ragged(&[5, 0, 10])).is_err());
}
