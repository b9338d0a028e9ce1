//! Few queries over many keys: every key and value is read once, straight through, for all queries of its group.

use std::ops::Range;

use tch::{TchError, Tensor};

use super::chunk::{Chunk, Queries};
use super::packed::PackedChunk;
use super::partial::{self, Merge};
use super::{AttentionState, Mask, Part, Sequence, reference};
use crate::element::Element;
use crate::rows::{Rows, RowsMut, Scratch, elements, integers};
use crate::simd::Isa;
use crate::threads;

/// Fewest keys that are worth a thread's while.
const CHUNK: usize = 512;

/// Most chunks that a head's part is split into: what is allocated does not grow with the cache.
const CHUNKS: usize = 16;

/// The query rows that share one KV head in one sequence, and the chunks of keys that they see.
struct Group {
    /// The sequence's first token in the batch.
    token: usize,
    /// New tokens of the sequence.
    queries: usize,
    kv_head: usize,
    /// The partial results of all its chunks.
    partials: Range<usize>,
}

/// Keys that a thread attends over.
enum Work<'a, E: Element, F> {
    Rows(Chunk<'a, E, F>),
    /// Codes, which meet queries in float32.
    Packed(PackedChunk<'a>),
}

/// See [`super::attend_parts`], which has checked that the parts fit.
pub(super) fn attend<I: Isa, E: Element>(
    query: &Tensor,
    sequences: &[Sequence<'_>],
    kv_heads: usize,
    scale: f32,
) -> Result<Tensor, TchError> {
    let (tokens, heads, head_dim) = query.size3()?;
    let output = Tensor::f_empty([tokens, heads * head_dim], (query.kind(), query.device()))?;
    let (heads, head_dim) = (heads as usize, head_dim as usize);
    let group_size = heads / kv_heads;
    let new = query;
    let query = Rows::<E>::of(query)?;
    let factors = pack(&query, E::factor::<I>);
    let packed =
        sequences.iter().flat_map(|sequence| &sequence.parts).any(|part| matches!(part, Part::Quantized { .. }));
    let wide = if packed { pack(&query, E::to_f32) } else { Vec::new() };

    let (mut groups, mut chunks, mut partials) = (Vec::new(), Vec::new(), Vec::new());
    let mut token = 0;
    for sequence in sequences {
        let queries = sequence.queries as usize;
        // Keys of fewer channels have no kernel of their own here.
        let pruned = sequence.parts.iter().filter_map(|part| match part {
            Part::Pruned { keys, values, extent, channels } => {
                let own = new.f_narrow(0, token as i64, sequence.queries).and_then(|own| own.f_transpose(0, 1));
                let attend = |own| reference::attend_pruned(&own, keys, values, *extent, channels, f64::from(scale));
                Some(own.and_then(attend))
            }
            _ => None,
        });
        let pruned = pruned.collect::<Result<Vec<_>, _>>()?;
        for kv_head in 0..kv_heads {
            let start = partials.len();
            let own = Own {
                first: (token * heads + kv_head * group_size) * head_dim,
                token_stride: heads * head_dim,
                tokens: queries,
                group: group_size,
                head_dim,
                scale,
            };
            for state in &pruned {
                push_state(&mut partials, state, kv_head * group_size, group_size)?;
            }
            for part in &sequence.parts {
                match part {
                    Part::Pruned { .. } => {}
                    Part::Rows { keys, values, extent, mask } => {
                        let (first, length) = extent.rows(kv_head).unwrap_or((0, 0));
                        let (keys, values) = (elements::<E>(keys)?, elements::<E>(values)?);
                        for range in split(length, 1) {
                            let rows = (first + range.start) * head_dim..(first + range.end) * head_dim;
                            let hidden = (*mask == Mask::Causal).then_some(length - range.end);
                            let queries = own.queries(&factors);
                            let chunk = Chunk { queries, keys: &keys[rows.clone()], values: &values[rows], hidden };
                            chunks.push((own.room(&mut partials), Work::Rows(chunk)));
                        }
                    }
                    Part::Quantized { store, channels } => {
                        let group = store.format.group as usize;
                        let channels = channels.map(|channels| kept(channels, kv_head, head_dim)).transpose()?;
                        let [first, last] = [0, 1].map(|next| store.indptr[kv_head + next] as usize);
                        for range in split((last - first) * group, group) {
                            let groups = first + range.start / group..first + range.end / group;
                            let chunk = PackedChunk::of(store, channels, own.queries(&wide), groups)?;
                            chunks.push((own.room(&mut partials), Work::Packed(chunk)));
                        }
                    }
                }
            }
            groups.push(Group { token, queries, kv_head, partials: start..partials.len() });
        }
        token += queries;
    }

    let scratch = Scratch::of(&mut partials);
    threads::for_each(chunks.len(), |index| {
        let (room, work) = &chunks[index];
        // SAFETY: each chunk has partial results of its own.
        let own = unsafe { scratch.part(room.clone()) };
        partial::clear(own, head_dim);
        // SAFETY: `for_level` names only what the processor has.
        unsafe {
            match work {
                Work::Rows(chunk) => I::call(chunk.over(own)),
                Work::Packed(chunk) => I::call(chunk.over(own)),
            }
        }
    });

    let output_rows = RowsMut::<E>::of(&output)?;
    for group in &groups {
        let rows = group.queries * group_size;
        for row in 0..rows {
            let at = (group.kv_head * group_size + row % group_size) * head_dim;
            // SAFETY: this thread alone writes, one row after another.
            let output = unsafe { output_rows.row(0, group.token + row / group_size, at..at + head_dim) };
            let (stride, start) = (rows * (head_dim + 2), row * (head_dim + 2));
            // SAFETY: `for_level` names only what the processor has.
            unsafe { I::call(Merge { partials: &mut partials[group.partials.clone()], stride, start, output }) };
        }
    }
    Ok(output)
}

/// Which queries of the batch are a sequence's and a KV head's.
struct Own {
    /// Factor where the first of them starts.
    first: usize,
    token_stride: usize,
    tokens: usize,
    group: usize,
    head_dim: usize,
    scale: f32,
}

impl Own {
    fn queries<'a, F>(&self, factors: &'a [F]) -> Queries<'a, F> {
        let Self { first, token_stride, tokens, group, head_dim, scale } = *self;
        Queries { factors: &factors[first.min(factors.len())..], token_stride, tokens, group, head_dim, scale }
    }

    /// Makes room for their partial results over one chunk.
    fn room(&self, partials: &mut Vec<f32>) -> Range<usize> {
        let start = partials.len();
        partials.resize(start + self.tokens * self.group * (self.head_dim + 2), 0.0);
        start..partials.len()
    }
}

/// The channels that a KV head's keys have of the queries' `head_dim`.
fn kept(channels: &Tensor, kv_head: usize, head_dim: usize) -> Result<&[i64], TchError> {
    let count = channels.size2()?.1 as usize;
    let own = &integers(channels)?[kv_head * count..][..count];
    if own.iter().all(|channel| (0..head_dim as i64).contains(channel)) {
        return Ok(own);
    }
    Err(TchError::Shape(format!("key channels {own:?} of {head_dim}")))
}

/// Chunks of `length` keys, each a multiple of `unit` but for the last.
fn split(length: usize, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let size = length.div_ceil(CHUNKS).max(CHUNK).next_multiple_of(unit);
    (0..length).step_by(size).map(move |start| start..length.min(start + size))
}

/// Queries as the factors of dot products, `[tokens, heads, head_dim]`.
fn pack<E: Element, F>(query: &Rows<'_, E>, factor: impl Fn(E) -> F) -> Vec<F> {
    let [tokens, heads] = query.extents();
    let mut factors = Vec::with_capacity(tokens * heads * query.width());
    for (token, head) in (0..tokens).flat_map(|token| (0..heads).map(move |head| (token, head))) {
        factors.extend(query.row(token, head).iter().map(|value| factor(*value)));
    }
    factors
}

/// Appends a state's rows of the heads from `first` on, as partial results.
fn push_state(partials: &mut Vec<f32>, state: &AttentionState, first: usize, count: usize) -> Result<(), TchError> {
    let (output, lse) = (Rows::<f32>::of(&state.output)?, Rows::<f32>::of(&state.lse)?);
    for query in 0..output.extents()[1] {
        for head in first..first + count {
            let lse = lse.row(0, head)[query];
            // Over no keys, there is nothing to weigh.
            partials.extend([lse, if lse == f32::NEG_INFINITY { 0.0 } else { 1.0 }]);
            partials.extend_from_slice(output.row(head, query));
        }
    }
    Ok(())
}
