//! The kernels of a GPU in plain Rust: block by block with the same geometry, for tests.
#![allow(unsafe_code, reason = "spans are addresses")]

use tch::{Kind, Tensor};

use super::super::Sequence;
use super::super::geometry::{Group, Plan, Span};

/// Keys of a warp's tile, and warps of a block.
const TILE: usize = 32;
const WARPS: usize = 4;

/// One query row's partial result: largest logit, denominator, weighted sum of values.
type Partial = (f32, f32, Vec<f32>);

struct Batch<'a> {
    query: &'a [f32],
    heads: usize,
    group: usize,
    head_dim: usize,
    key_dim: usize,
    scale: f32,
}

/// What `stream.cu` and `merge.cu` compute of float32 sequences.
pub(super) fn attend(query: &Tensor, sequences: &[Sequence<'_>], kv_heads: i64, scale: f64) -> Tensor {
    let (tokens, heads, head_dim) = query.size3().unwrap();
    let plan = Plan::of(sequences, heads, kv_heads, head_dim).unwrap();
    let query = Vec::<f32>::try_from(query.contiguous().view(-1)).unwrap();
    let (heads, head_dim) = (heads as usize, head_dim as usize);
    let (group, numbers) = (heads / kv_heads as usize, head_dim + 2);
    // What no block writes stays NaN, and shows.
    let mut partials = vec![f32::NAN; plan.numbers as usize];
    for (shape, spans) in &plan.spans {
        let tile = shape.rows_of_block(plan.rows());
        let scale = (scale * std::f64::consts::LOG2_E) as f32;
        let batch = Batch { query: &query, heads, group, head_dim, key_dim: shape.key_dim as usize, scale };
        for span in spans {
            let rows = span.tokens * group as u32;
            for (chunk, first_row) in
                (0..span.chunks()).flat_map(|chunk| (0..rows).step_by(tile as usize).map(move |row| (chunk, row)))
            {
                for row in first_row..rows.min(first_row + tile) {
                    let at = span.partials as usize + (chunk * rows + row) as usize * numbers;
                    write(&mut partials, at, &batch.block(span, chunk as usize, row as usize));
                }
            }
        }
    }
    let mut output = vec![f32::NAN; tokens as usize * heads * head_dim];
    for own in &plan.groups {
        for row in 0..own.rows as usize {
            let at = (own.token as usize + row / group) * heads + own.head as usize + row % group;
            output[at * head_dim..][..head_dim].copy_from_slice(&merged(own, row, &partials, head_dim));
        }
    }
    Tensor::from_slice(&output).view([tokens, (heads * head_dim) as i64]).to_kind(Kind::Float)
}

fn write(partials: &mut [f32], at: usize, (top, total, output): &Partial) {
    assert!(partials[at].is_nan(), "two blocks write partial result {at}");
    partials[at..at + 2].copy_from_slice(&[*top, *total]);
    partials[at + 2..][..output.len()].copy_from_slice(output);
}

fn weight(exponent: f32, largest: f32) -> f32 {
    if exponent == f32::NEG_INFINITY { 0.0 } else { (exponent - largest).exp2() }
}

impl Batch<'_> {
    /// What a block computes of one query row over one chunk.
    fn block(&self, span: &Span, chunk: usize, row: usize) -> Partial {
        let token = row / self.group;
        let first = chunk * span.chunk as usize;
        let count = (span.length as usize - first).min(span.chunk as usize);
        let hidden = if span.causal == 1 { span.tokens as usize - 1 - token } else { 0 };
        let visible = (span.length as usize).saturating_sub(hidden).saturating_sub(first).min(count);
        let at = (span.token as usize + token) * self.heads + span.head as usize + row % self.group;
        let query = &self.query[at * self.head_dim..][..self.head_dim];
        // SAFETY: the span was made of tensors that the caller holds.
        let (keys, values, channels) = unsafe {
            let data =
                |at: u64, width: usize| std::slice::from_raw_parts(at as *const f32, span.length as usize * width);
            let channels =
                (span.channels != 0).then(|| std::slice::from_raw_parts(span.channels as *const i64, self.key_dim));
            (data(span.keys, self.key_dim), data(span.values, self.head_dim), channels)
        };
        let own: Vec<f32> = (0..self.key_dim)
            .map(|column| query[channels.map_or(column, |channels| channels[column] as usize)] * self.scale)
            .collect();
        let mut warps = vec![(f32::NEG_INFINITY, 0.0, vec![0.0; self.head_dim]); WARPS];
        for (index, start) in (0..count).step_by(TILE).enumerate() {
            let (top, total, output) = &mut warps[index % WARPS];
            let keys_of = start..visible.min(start + TILE).max(start);
            let logits: Vec<f32> = keys_of
                .clone()
                .map(|key| {
                    let key = &keys[(first + key) * self.key_dim..][..self.key_dim];
                    own.iter().zip(key).map(|(query, key)| query * key).sum()
                })
                .collect();
            let largest = logits.iter().copied().fold(*top, f32::max);
            let factor = weight(*top, largest);
            *total *= factor;
            output.iter_mut().for_each(|sum| *sum *= factor);
            for (key, logit) in keys_of.zip(logits) {
                let weight = weight(logit, largest);
                *total += weight;
                let value = &values[(first + key) * self.head_dim..][..self.head_dim];
                output.iter_mut().zip(value).for_each(|(sum, value)| *sum += weight * value);
            }
            *top = largest;
        }
        join(warps.iter().map(|(top, total, output)| (*top, *total, output.as_slice())), self.head_dim)
    }
}

/// Partial results over the union of keys.
fn join<'a>(parts: impl Iterator<Item = (f32, f32, &'a [f32])> + Clone, head_dim: usize) -> Partial {
    let largest = parts.clone().map(|(top, ..)| top).fold(f32::NEG_INFINITY, f32::max);
    let mut joined = (largest, 0.0, vec![0.0; head_dim]);
    for (top, total, output) in parts {
        let weight = weight(top, largest);
        joined.1 += weight * total;
        joined.2.iter_mut().zip(output).for_each(|(sum, value)| *sum += weight * value);
    }
    joined
}

/// What `merge.cu` computes of one row.
fn merged(own: &Group, row: usize, partials: &[f32], head_dim: usize) -> Vec<f32> {
    let stride = own.rows as usize * (head_dim + 2);
    let parts = (0..own.chunks as usize).map(|chunk| {
        let partial = &partials[own.partials as usize + chunk * stride + row * (head_dim + 2)..][..head_dim + 2];
        (partial[0], partial[1], &partial[2..])
    });
    let (_, total, output) = join(parts, head_dim);
    output.into_iter().map(|sum| if total == 0.0 { 0.0 } else { sum / total }).collect()
}
