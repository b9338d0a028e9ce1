//! The merge state and ragged attention against a naive softmax.

use pressroom_kernels::attention::{AttentionState, Mask, attend, attend_ragged};
use proptest::prelude::*;
use tch::Tensor;

use crate::support::values;

/// Softmax attention by explicit loops in float64; `None` where a query sees nothing.
fn naive(query: &Tensor, keys: &[Tensor], vals: &[Tensor], causal: bool, scale: f64) -> Vec<Vec<f64>> {
    let (heads, queries, dim) = query.size3().unwrap();
    let group = heads / keys.len() as i64;
    let mut outputs = Vec::new();
    for head in 0..heads {
        let (k, v) = (&keys[(head / group) as usize], &vals[(head / group) as usize]);
        let tokens = k.size()[0];
        for q in 0..queries {
            let visible = if causal { tokens - (queries - 1 - q) } else { tokens };
            let logits: Vec<f64> = (0..visible)
                .map(|t| {
                    (0..dim).map(|d| query.double_value(&[head, q, d]) * k.double_value(&[t, d])).sum::<f64>() * scale
                })
                .collect();
            let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = logits.iter().map(|logit| (logit - top).exp()).collect();
            let total: f64 = weights.iter().sum();
            outputs.push(
                (0..dim)
                    .map(|d| {
                        weights.iter().enumerate().map(|(t, w)| w * v.double_value(&[t as i64, d])).sum::<f64>() / total
                    })
                    .collect(),
            );
        }
    }
    outputs
}

fn close(ours: &Tensor, expected: &[Vec<f64>], tolerance: f64) -> bool {
    let flat: Vec<f32> = ours.flatten(0, -1).try_into().unwrap();
    flat.iter().zip(expected.iter().flatten()).all(|(&a, &b)| (f64::from(a) - b).abs() <= tolerance)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn causal_attention_is_the_naive_softmax(
        seed in 0u64..1000, kv_heads in 1i64..3, group in 1i64..4, queries in 1i64..5, before in 0i64..12, magnitude in 0.1f64..30.0,
    ) {
        let tokens = before + queries;
        let query = values(seed, &[kv_heads * group, queries, 4]) * magnitude;
        let keys = values(seed + 1, &[kv_heads, tokens, 4]);
        let vals = values(seed + 2, &[kv_heads, tokens, 4]);
        let state = attend(&query, &keys, &vals, Mask::Causal, 0.5).unwrap();
        let split = |data: &Tensor| (0..kv_heads).map(|head| data.get(head)).collect::<Vec<_>>();
        prop_assert!(close(&state.output, &naive(&query, &split(&keys), &split(&vals), true, 0.5), 1e-5));
    }

    #[test]
    fn ragged_attention_is_dense_attention_with_the_evicted_keys_masked_to_minus_infinity(
        seed in 0u64..1000, queries in 1i64..4, mask in proptest::collection::vec(any::<bool>(), 2 * 9),
    ) {
        let (kv_heads, tokens) = (2i64, 9i64);
        let query = values(seed, &[4, queries, 4]);
        let keys = values(seed + 1, &[kv_heads, tokens, 4]);
        let vals = values(seed + 2, &[kv_heads, tokens, 4]);
        let kept = |head: i64| -> Vec<i64> { (0..tokens).filter(|t| mask[(head * tokens + t) as usize]).collect() };
        let rows = |data: &Tensor| {
            let parts: Vec<Tensor> = (0..kv_heads).map(|h| data.get(h).index_select(0, &Tensor::from_slice(&kept(h)))).collect();
            Tensor::cat(&parts, 0)
        };
        let indptr: Vec<i64> = [0, kept(0).len() as i64, (kept(0).len() + kept(1).len()) as i64].into();
        let ragged = attend_ragged(&query, &rows(&keys), &rows(&vals), &indptr, 0.5).unwrap();

        let evicted = Tensor::from_slice(&mask).view([kv_heads, 1, tokens]).logical_not();
        let logits = query.view([kv_heads, 2 * queries, 4]).bmm(&keys.transpose(1, 2)) * 0.5;
        let weights = logits.masked_fill(&evicted, f64::NEG_INFINITY).softmax(-1, tch::Kind::Float);
        // A head that kept nothing: masked softmax is NaN there, the ragged state is empty.
        let dense = weights.nan_to_num(0.0, None, None).bmm(&vals).view([4, queries, 4]);
        let off = f64::try_from((&ragged.output - dense).abs().max()).unwrap();
        prop_assert!(off < 1e-6, "off by {}", off);
    }

    #[test]
    fn merged_parts_are_the_whole_in_any_order(seed in 0u64..1000, first in 0i64..7, second in 0i64..7, queries in 1i64..4) {
        let tokens = first + second + 1;
        let query = values(seed, &[4, queries, 4]) * 8.0;
        let keys = values(seed + 1, &[2, tokens, 4]) * 4.0;
        let vals = values(seed + 2, &[2, tokens, 4]);
        let part = |start: i64, length: i64| -> AttentionState {
            attend(&query, &keys.narrow(1, start, length), &vals.narrow(1, start, length), Mask::None, 0.5).unwrap()
        };
        let whole = part(0, tokens);
        let (a, b, c) = (part(0, first), part(first, second), part(first + second, 1));
        for merged in [
            a.merge(&b).unwrap().merge(&c).unwrap(),
            c.merge(&b.merge(&a).unwrap()).unwrap(),
        ] {
            prop_assert!(merged.output.allclose(&whole.output, 1e-5, 1e-6, false));
            prop_assert!(merged.lse.allclose(&whole.lse, 1e-5, 1e-5, false));
        }
        let empty = AttentionState::empty(4, queries, 4, tch::Device::Cpu).unwrap();
        let nothing = empty.merge(&AttentionState::empty(4, queries, 4, tch::Device::Cpu).unwrap()).unwrap();
        prop_assert!(nothing.output.allclose(&empty.output, 0.0, 0.0, false));
    }
}
