//! Streamed attention over quantized keys and values: each group is unpacked into the first-level cache and attended
//! over there.

use half::f16;
use tch::TchError;

use super::chunk::{Chunk, Queries};
use crate::quantized::{Bits, Quantized, unpack_keys, unpack_values};
use crate::rows::{bytes, elements};
use crate::simd::{Isa, Kernel};

/// Whole groups of one KV head, and the query rows that attend over them.
pub(super) struct PackedChunk<'a> {
    queries: Queries<'a, f32>,
    bits: Bits,
    group: usize,
    key_codes: &'a [u8],
    /// `[groups, 2, head_dim]`
    key_scales: &'a [f16],
    value_codes: &'a [u8],
    /// `[rows, 2]`
    value_scales: &'a [f16],
}

/// A chunk and the partial results that it fills.
pub(super) struct Attend<'a, 'b> {
    chunk: &'b PackedChunk<'a>,
    partials: &'b mut [f32],
}

impl<'a> PackedChunk<'a> {
    /// Rows `rows` of the store, which are whole groups.
    pub(super) fn of(
        store: &'a Quantized,
        queries: Queries<'a, f32>,
        rows: std::ops::Range<usize>,
    ) -> Result<Self, TchError> {
        let (group, head_dim) = (store.group as usize, queries.head_dim);
        let width = head_dim / store.bits.per_byte() as usize;
        let groups = rows.start / group * 2 * head_dim..rows.end / group * 2 * head_dim;
        Ok(Self {
            queries,
            bits: store.bits,
            group,
            key_codes: part(bytes(&store.key_codes)?, rows.start * width..rows.end * width)?,
            key_scales: part(elements(&store.key_scales)?, groups)?,
            value_codes: part(bytes(&store.value_codes)?, rows.start * width..rows.end * width)?,
            value_scales: part(elements(&store.value_scales)?, 2 * rows.start..2 * rows.end)?,
        })
    }

    /// The work over `partials`, as [`Chunk::over`].
    pub(super) fn over<'b>(&'b self, partials: &'b mut [f32]) -> Attend<'a, 'b> {
        Attend { chunk: self, partials }
    }
}

fn part<T>(all: &[T], range: std::ops::Range<usize>) -> Result<&[T], TchError> {
    all.get(range.clone()).ok_or_else(|| TchError::Shape(format!("{range:?} of {} quantized elements", all.len())))
}

impl<I: Isa> Kernel<I> for Attend<'_, '_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(self) {
        let PackedChunk { queries, bits, group, .. } = *self.chunk;
        let head_dim = queries.head_dim;
        let codes = group * head_dim / bits.per_byte() as usize;
        let mut scales = vec![0.0; 2 * head_dim];
        let (mut keys, mut values) = (vec![0.0; group * head_dim], vec![0.0; group * head_dim]);
        let key_groups = self.chunk.key_codes.chunks_exact(codes).zip(self.chunk.key_scales.chunks_exact(2 * head_dim));
        let value_groups =
            self.chunk.value_codes.chunks_exact(codes).zip(self.chunk.value_scales.chunks_exact(2 * group));
        for ((key_codes, key_scales), (value_codes, value_scales)) in key_groups.zip(value_groups) {
            for (scale, stored) in scales.iter_mut().zip(key_scales) {
                *scale = stored.to_f32();
            }
            // SAFETY: the caller vouches for the processor.
            unsafe {
                unpack_keys::<I>(key_codes, bits, &scales, head_dim, &mut keys);
                unpack_values::<I>(value_codes, bits, value_scales, head_dim, &mut values);
                let chunk = Chunk { queries, keys: &keys, values: &values, hidden: None };
                Kernel::<I>::run(chunk.over(self.partials));
            }
        }
    }
}
