//! How attention on a GPU is split over blocks: spans of keys, chunks of spans, tiles of query rows.

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

use super::{Extent, Mask, Part, Sequence};
use crate::cuda::{Record, VECTOR};
use crate::quantized::{Format, Quantized};

/// Fewest keys of a chunk: what is worth a block's while.
const CHUNK: usize = 512;

/// Most chunks of a span: what is allocated does not grow with the cache.
const CHUNKS: usize = 64;

/// Chunks are whole tiles of keys for each warp of a block.
const UNIT: usize = 128;

/// Warps of a block.
const WARPS: usize = 4;

/// Most query rows of a block: with more, a thread's registers do not hold its queries and sums.
const ROWS: u32 = 4;

/// Query rows of a block over codes: what the product of a matrix takes.
const PACKED_ROWS: u32 = 8;

/// The keys of one KV head in one part of one sequence.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) keys: u64,
    pub(super) values: u64,
    pub(super) key_scales: u64,
    pub(super) value_scales: u64,
    pub(super) channels: u64,
    pub(super) partials: u64,
    pub(super) length: u32,
    pub(super) chunk: u32,
    pub(super) token: u32,
    pub(super) tokens: u32,
    pub(super) head: u32,
    pub(super) causal: u32,
}

// SAFETY: six addresses, then six counts: 72 bytes without a gap.
#[allow(unsafe_code, reason = "laid out as span.cuh reads it")]
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
    /// How they lie in memory.
    pub(super) storage: Storage,
}

/// How the keys and values of a span lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Storage {
    /// As rows.
    Rows {
        /// Whether these start at multiples of 16 bytes.
        aligned: bool,
    },
    /// As codes.
    Packed(Format),
}

impl Shape {
    /// Query rows of a block, where a KV head has `rows`: a power of two.
    pub(super) fn rows_of_block(&self, rows: u32) -> u32 {
        match self.storage {
            Storage::Rows { .. } => rows.max(1).next_power_of_two().min(ROWS),
            Storage::Packed(_) => PACKED_ROWS,
        }
    }
}

/// What is launched for a batch.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) spans: BTreeMap<Shape, Vec<Span>>,
    pub(super) groups: Vec<Group>,
    /// Numbers of all partial results together.
    pub(super) numbers: u64,
}

/// Keys of a chunk, whole units. It depends on the span's length alone, so that a batch changes no bit of a sequence.
fn chunk(length: usize, unit: usize) -> usize {
    length.div_ceil(CHUNKS).max(CHUNK).next_multiple_of(unit)
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
                    let (shape, mut span) = span(part, kv_head as usize)?;
                    span.partials = plan.numbers;
                    (span.token, span.tokens, span.head) = (count(token)?, count(sequence.queries)?, count(head)?);
                    plan.spans.entry(shape).or_default().push(span);
                    let own = span.chunks();
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

/// The keys of a KV head in a part, where they lie. Which queries see them, and where their partial results go, is due.
fn span(part: &Part<'_>, kv_head: usize) -> Result<(Shape, Span), TchError> {
    let (shape, mut span, channels) = match *part {
        Part::Rows { keys, values, extent, mask } => {
            let (shape, span) = rows([keys, values], extent, kv_head)?;
            (shape, Span { causal: u32::from(mask == Mask::Causal), ..span }, None)
        }
        Part::Pruned { keys, values, extent, channels } => {
            let (shape, span) = rows([keys, values], extent, kv_head)?;
            (shape, span, Some(channels))
        }
        Part::Quantized { store, channels } => {
            let (shape, span) = packed(store, kv_head)?;
            (shape, span, channels)
        }
    };
    if let Some(channels) = channels {
        let first = kv_head as u64 * shape.key_dim as u64;
        span.channels = channels.data_ptr() as u64 + first * size_of::<i64>() as u64;
    }
    Ok((shape, span))
}

/// Plain rows of keys and values.
fn rows(sides: [&Tensor; 2], extent: Extent<'_>, kv_head: usize) -> Result<(Shape, Span), TchError> {
    let none = || TchError::Shape(format!("{extent:?} has no KV head {kv_head}"));
    if !sides.iter().all(|data| data.is_contiguous()) {
        return Err(TchError::Shape("keys or values whose rows do not lie one after another".into()));
    }
    let (first, length) = extent.rows(kv_head).ok_or_else(none)?;
    let [(keys, key_row), (values, value_row)] = sides.map(|data| {
        let row = data.size().last().map_or(0, |width| *width as usize) * data.kind().elt_size_in_bytes();
        (data.data_ptr() as u64 + (first * row) as u64, row as u64)
    });
    let key_dim = sides[0].size().last().copied().unwrap_or(0);
    let aligned = [keys, values, key_row, value_row].iter().all(|at| at % VECTOR == 0);
    let span = Span {
        keys,
        values,
        length: count(length as i64)?,
        chunk: count(chunk(length, UNIT) as i64)?,
        ..Span::default()
    };
    Ok((Shape { key_dim, storage: Storage::Rows { aligned } }, span))
}

/// Whole groups of codes.
fn packed(store: &Quantized, kv_head: usize) -> Result<(Shape, Span), TchError> {
    let (groups, [[keys, key_scales], [values, value_scales]]) = store.place(kv_head)?;
    let format = store.format();
    let length = groups * format.group;
    let span = Span {
        keys,
        values,
        key_scales,
        value_scales,
        length: count(length)?,
        chunk: count(chunk(length as usize, WARPS * format.group as usize) as i64)?,
        ..Span::default()
    };
    Ok((Shape { key_dim: store.channels()[0], storage: Storage::Packed(format) }, span))
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
        fn chunks_cover_every_key_once(
            length in prop_oneof![0usize..2000, 30_000usize..40_000, 0usize..5_000_000],
            unit in prop_oneof![Just(UNIT), Just(WARPS * 48), Just(WARPS * 1024)],
        ) {
            let chunk = chunk(length, unit);
            prop_assert_eq!(chunk % unit, 0);
            let chunks = length.div_ceil(chunk);
            prop_assert!(chunks <= CHUNKS && (length == 0 || (chunks - 1) * chunk < length));
        }

        #[test]
        fn tiles_hold_the_rows_there_are(rows in 0u32..100_000) {
            let shape = Shape { key_dim: 64, storage: Storage::Rows { aligned: true } };
            let tile = shape.rows_of_block(rows);
            prop_assert!(tile.is_power_of_two() && tile <= ROWS && (tile == ROWS || tile >= rows));
        }
    }
}
