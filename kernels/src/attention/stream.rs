//! Few queries over many keys: every key and value is read once, straight through, for all queries of its group.

use tch::{TchError, Tensor};

use super::chunk::Chunk;
use super::partial::{self, Merge};
use super::{AttentionState, Part, Sequence};
use crate::element::Element;
use crate::rows::{Rows, RowsMut, Scratch, elements};
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
    partials: std::ops::Range<usize>,
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
    let factors = pack::<I, E>(&Rows::<E>::of(query)?);

    let (mut groups, mut chunks, mut partials) = (Vec::new(), Vec::new(), Vec::new());
    let mut token = 0;
    for sequence in sequences {
        let queries = sequence.queries as usize;
        for kv_head in 0..kv_heads {
            let start = partials.len();
            for part in &sequence.parts {
                match part {
                    Part::Rows { keys, values, extent, mask } => {
                        let (first, length) = extent.rows(kv_head).unwrap_or((0, 0));
                        let (keys, values) = (elements::<E>(keys)?, elements::<E>(values)?);
                        let size = length.div_ceil(CHUNKS).max(CHUNK);
                        for begin in (0..length).step_by(size) {
                            let end = length.min(begin + size);
                            let own = (first + begin) * head_dim..(first + end) * head_dim;
                            let partial = partials.len();
                            partials.resize(partial + queries * group_size * (head_dim + 2), 0.0);
                            chunks.push((
                                partial,
                                Chunk {
                                    factors: &factors[(token * heads + kv_head * group_size) * head_dim..],
                                    token_stride: heads * head_dim,
                                    queries,
                                    group: group_size,
                                    head_dim,
                                    keys: &keys[own.clone()],
                                    values: &values[own],
                                    hidden: (*mask == super::Mask::Causal).then_some(length - end),
                                    scale,
                                },
                            ));
                        }
                    }
                    Part::State(state) => push_state(&mut partials, state, kv_head * group_size, group_size)?,
                }
            }
            groups.push(Group { token, queries, kv_head, partials: start..partials.len() });
        }
        token += queries;
    }

    let scratch = Scratch::of(&mut partials);
    threads::for_each(chunks.len(), |index| {
        let (start, chunk) = &chunks[index];
        // SAFETY: each chunk has partial results of its own.
        let own = unsafe { scratch.part(*start..start + chunk.rows() * (head_dim + 2)) };
        partial::clear(own, head_dim);
        // SAFETY: `for_level` names only what the processor has.
        unsafe { I::call(chunk.over(own)) };
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
            unsafe { I::call(Merge { partials: &partials[group.partials.clone()], stride, start, output }) };
        }
    }
    Ok(output)
}

/// Queries as the factors of dot products, `[tokens, heads, head_dim]`.
fn pack<I: Isa, E: Element>(query: &Rows<'_, E>) -> Vec<E::Factor<I>> {
    let [tokens, heads] = query.extents();
    let mut factors = Vec::with_capacity(tokens * heads * query.width());
    for (token, head) in (0..tokens).flat_map(|token| (0..heads).map(move |head| (token, head))) {
        factors.extend(query.row(token, head).iter().map(|value| value.factor::<I>()));
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
