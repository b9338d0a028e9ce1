//! How attention on a GPU is split over blocks: spans of keys, chunks of spans, tiles of query rows.

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

use super::{Mask, Part, Sequence};
use crate::cuda::Record;

/// Fewest keys of a chunk: what is worth a block's while.
const CHUNK: usize = 512;

/// Most chunks of a span: what is allocated does not grow with the cache.
const CHUNKS: usize = 64;

/// Chunks are whole tiles of keys for each warp of a block.
const UNIT: usize = 128;

/// Most query rows of a block: with more, a thread's registers do not hold its queries and sums.
const ROWS: u32 = 4;

/// Bytes that a thread loads at a time.
const VECTOR: usize = 16;

/// The keys of one KV head in one part of one sequence.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) keys: u64,
    pub(super) values: u64,
    pub(super) channels: u64,
    pub(super) partials: u64,
    pub(super) length: u32,
    pub(super) chunk: u32,
    pub(super) token: u32,
    pub(super) tokens: u32,
    pub(super) head: u32,
    pub(super) causal: u32,
}

// SAFETY: four addresses, then six counts: 56 bytes without a gap.
#[allow(unsafe_code, reason = "laid out as stream.cu reads it")]
unsafe impl Record for Span {}

impl Span {
    /// Blocks along the keys.
    pub(super) fn chunks(&self) -> u32 {
        self.length.div_ceil(self.chunk.max(1))
    }
}

/// The query rows that share a KV head in one sequence, and the partial results over all their chunks.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) partials: u64,
    pub(super) chunks: u32,
    pub(super) rows: u32,
    pub(super) token: u32,
    pub(super) head: u32,
}

// SAFETY: an address and four counts: 24 bytes without a gap.
#[allow(unsafe_code, reason = "laid out as merge.cu reads it")]
unsafe impl Record for Group {}

/// Spans that one program attends over: alike in what it takes as constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    /// Channels of a key.
    pub(super) key_dim: i64,
    /// Whether rows start at multiples of 16 bytes.
    pub(super) aligned: bool,
}

/// What is launched for a batch.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) spans: BTreeMap<Shape, Vec<Span>>,
    pub(super) groups: Vec<Group>,
    /// Numbers of all partial results together.
    pub(super) numbers: u64,
}

/// Keys of a chunk. It depends on the span's length alone, so that a batch changes no bit of a sequence.
pub(super) fn chunk(length: usize) -> usize {
    length.div_ceil(CHUNKS).max(CHUNK).next_multiple_of(UNIT)
}

/// Query rows of a block, a power of two: as many as there are, up to [`ROWS`].
pub(super) fn rows_of_block(rows: u32) -> u32 {
    rows.max(1).next_power_of_two().min(ROWS)
}

impl Plan {
    /// The plan of `sequences`, which fit `heads` query heads of `head_dim` channels on `kv_heads` KV heads.
    pub(super) fn of(sequences: &[Sequence<'_>], heads: i64, kv_heads: i64, head_dim: i64) -> Result<Self, TchError> {
        let mut plan = Self::default();
        let group = heads / kv_heads;
        let mut token = 0;
        for sequence in sequences {
            let rows = sequence.queries * group;
            for kv_head in 0..kv_heads {
                let head = kv_head * group;
                let first = plan.numbers;
                let mut chunks = 0;
                for part in &sequence.parts {
                    let start = plan.numbers;
                    let own = match part {
                        Part::Rows { .. } | Part::Pruned { .. } => {
                            let (shape, mut span) = span(part, kv_head as usize)?;
                            span.partials = start;
                            (span.token, span.tokens, span.head) =
                                (count(token)?, count(sequence.queries)?, count(head)?);
                            plan.spans.entry(shape).or_default().push(span);
                            span.chunks()
                        }
                        Part::Quantized { .. } => {
                            return Err(TchError::Shape("quantized keys have no kernel on a GPU yet".into()));
                        }
                    };
                    chunks += own;
                    plan.numbers += u64::from(own) * rows as u64 * (head_dim as u64 + 2);
                }
                let (rows, token, head) = (count(rows)?, count(token)?, count(head)?);
                plan.groups.push(Group { partials: first, chunks, rows, token, head });
            }
            token += sequence.queries;
        }
        Ok(plan)
    }

    /// Most query rows of a group.
    pub(super) fn rows(&self) -> u32 {
        self.groups.iter().map(|group| group.rows).max().unwrap_or(0)
    }
}

/// The rows of a KV head in a part of plain rows, where they lie.
fn span(part: &Part<'_>, kv_head: usize) -> Result<(Shape, Span), TchError> {
    let (keys, values, extent, mask, channels) = match *part {
        Part::Rows { keys, values, extent, mask } => (keys, values, extent, mask, None),
        Part::Pruned { keys, values, extent, channels } => (keys, values, extent, Mask::None, Some(channels)),
        _ => return Err(TchError::Shape("plain rows are due".into())),
    };
    let none = || TchError::Shape(format!("{extent:?} has no KV head {kv_head}"));
    let (first, length) = extent.rows(kv_head).ok_or_else(none)?;
    let place = |data: &Tensor| -> Option<(u64, usize)> {
        let row = *data.size().last()? as usize * data.kind().elt_size_in_bytes();
        Some((data.data_ptr() as u64 + (first * row) as u64, row))
    };
    let ((keys_at, key_row), (values_at, value_row)) = place(keys).zip(place(values)).ok_or_else(none)?;
    let key_dim = keys.size().last().copied().unwrap_or(0);
    let aligned = [keys_at, values_at, key_row as u64, value_row as u64].iter().all(|at| at % VECTOR as u64 == 0);
    let channels = channels
        .map_or(0, |channels| channels.data_ptr() as u64 + (kv_head as u64 * key_dim as u64) * size_of::<i64>() as u64);
    let span = Span {
        keys: keys_at,
        values: values_at,
        channels,
        partials: 0,
        length: count(length as i64)?,
        chunk: count(chunk(length) as i64)?,
        token: 0,
        tokens: 0,
        head: 0,
        causal: u32::from(mask == Mask::Causal),
    };
    Ok((Shape { key_dim, aligned }, span))
}

/// A count as kernels take it.
fn count(number: i64) -> Result<u32, TchError> {
    u32::try_from(number).map_err(|_| TchError::Shape(format!("{number} is beyond what kernels count to")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn chunks_cover_every_key_once(length in prop_oneof![0usize..2000, 30_000usize..40_000, 0usize..5_000_000]) {
            let chunk = chunk(length);
            prop_assert_eq!(chunk % UNIT, 0);
            let chunks = length.div_ceil(chunk);
            prop_assert!(chunks <= CHUNKS && (length == 0 || (chunks - 1) * chunk < length));
        }

        #[test]
        fn tiles_hold_the_rows_there_are(rows in 0u32..100_000) {
            let tile = rows_of_block(rows);
            prop_assert!(tile.is_power_of_two() && tile <= ROWS && (tile == ROWS || tile >= rows));
        }
    }
}
