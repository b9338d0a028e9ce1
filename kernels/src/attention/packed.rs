//! Streamed attention over quantized keys and values: codes become numbers in registers, steps and zeros are folded into
//! the queries and the weights.
//!
//! With keys `code * step + zero` per channel, a logit is `Σ (q * step) * code + Σ q * zero`, of which the second sum is
//! that of all keys of the group; per token, `step * Σ q * code + zero * Σ q`. A group's weighted values are
//! `Σ (w * step) * code + Σ w * zero`.

use tch::TchError;

use super::chunk::Queries;
use super::partial::soften;
use crate::quantized::{
    Format, Group, Groups, KeySteps, LANES, Panels, Quantized, fold, multiply, padded, rotate_row, unshift,
};
use crate::simd::{Isa, Kernel};

/// Query rows computed together.
const ROWS: usize = 4;

/// Whole groups of one KV head, and the query rows that attend over them.
pub(super) struct PackedChunk<'a> {
    queries: Queries<'a, f32>,
    /// The channels of the queries that keys have; `None`: all.
    channels: Option<&'a [i64]>,
    format: Format,
    keys: Groups<'a>,
    values: Groups<'a>,
    groups: std::ops::Range<usize>,
}

/// A chunk and the partial results that it fills.
pub(super) struct Attend<'a, 'b> {
    chunk: &'b PackedChunk<'a>,
    partials: &'b mut [f32],
}

impl<'a> PackedChunk<'a> {
    /// Groups `groups` of the store; of the queries' channels, keys have `channels`.
    pub(super) fn of(
        store: &'a Quantized,
        channels: Option<&'a [i64]>,
        queries: Queries<'a, f32>,
        groups: std::ops::Range<usize>,
    ) -> Result<Self, TchError> {
        let (keys, values) = (store.keys.groups()?, store.values.groups()?);
        Ok(Self { queries, channels, format: store.format, keys, values, groups })
    }

    /// The work over `partials`, as [`super::chunk::Chunk::over`].
    pub(super) fn over<'b>(&'b self, partials: &'b mut [f32]) -> Attend<'a, 'b> {
        Attend { chunk: self, partials }
    }

    /// Query rows as they meet the keys, `[rows, padded channels]`: scaled, reduced to the keys' channels and rotated.
    fn prepared(&self, width: usize) -> Vec<f32> {
        let rows = self.queries.rows();
        let mut all = vec![0.0; rows * width];
        for (row, to) in all.chunks_exact_mut(width).enumerate() {
            let query = self.queries.row(row);
            let count = self.channels.map_or(query.len(), <[i64]>::len);
            let to = &mut to[..count];
            match self.channels {
                None => to.copy_from_slice(query),
                Some(channels) => to.iter_mut().zip(channels).for_each(|(to, &channel)| *to = query[channel as usize]),
            }
            to.iter_mut().for_each(|value| *value *= self.queries.scale);
            if self.format.hadamard {
                rotate_row(to);
            }
        }
        all
    }
}

/// What the tiles of a chunk share.
struct Scratch {
    /// Channels of keys and of values, padded to whole lanes.
    widths: [usize; 2],
    queries: Vec<f32>,
    /// Factors of a product, `[ROWS, the longest]`.
    factors: Vec<f32>,
    /// Logits, then weights, `[ROWS, group]`.
    weights: Vec<f32>,
    /// Sums of a product, `[ROWS, the widest]`.
    sums: Vec<f32>,
    unshift: [f32; LANES as usize],
}

impl<I: Isa> Kernel<I> for Attend<'_, '_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(self) {
        let Self { chunk, partials } = self;
        let Format { bits, group, hadamard, .. } = chunk.format;
        let dim = chunk.queries.head_dim;
        let count = chunk.channels.map_or(dim, <[i64]>::len);
        let widths = [count, dim].map(|channels| padded(channels as i64) as usize);
        let most = widths[0].max(widths[1]).max(group as usize);
        let mut scratch = Scratch {
            widths,
            queries: chunk.prepared(widths[0]),
            factors: vec![0.0; ROWS * most],
            weights: vec![0.0; ROWS * group as usize],
            sums: vec![0.0; ROWS * most],
            unshift: unshift(bits),
        };
        for index in chunk.groups.clone() {
            let (keys, values) = (chunk.keys.get(index), chunk.values.get(index));
            if index + 1 < chunk.groups.end {
                for next in [chunk.keys.get(index + 1), chunk.values.get(index + 1)] {
                    // SAFETY: the caller vouches for the processor.
                    unsafe { next.prefetch::<I>() };
                }
            }
            for (tile, partials) in partials.chunks_mut(ROWS * (dim + 2)).enumerate() {
                let row = tile * ROWS;
                // SAFETY: the caller vouches for the processor.
                unsafe {
                    match chunk.queries.rows() - row {
                        1 => chunk.tile::<I, 1>(keys, values, row, &mut scratch, partials),
                        2 => chunk.tile::<I, 2>(keys, values, row, &mut scratch, partials),
                        3 => chunk.tile::<I, 3>(keys, values, row, &mut scratch, partials),
                        _ => chunk.tile::<I, 4>(keys, values, row, &mut scratch, partials),
                    }
                }
            }
        }
        if hadamard {
            partials.chunks_exact_mut(dim + 2).for_each(|row| rotate_row(&mut row[2..]));
        }
    }
}

impl PackedChunk<'_> {
    /// `R` query rows over one group.
    ///
    /// # Safety
    /// The processor has `I`.
    #[inline(always)]
    unsafe fn tile<I: Isa, const R: usize>(
        &self,
        keys: Group<'_>,
        values: Group<'_>,
        row: usize,
        scratch: &mut Scratch,
        partials: &mut [f32],
    ) {
        let group = self.format.group as usize;
        let mut factors = [0.0; R];
        // SAFETY: the caller vouches for the processor.
        unsafe {
            match self.format.keys {
                KeySteps::PerChannel => self.logits_per_channel::<I, R>(keys, row, scratch),
                KeySteps::PerToken => self.logits_per_token::<I, R>(keys, row, scratch),
            }
            let rows =
                scratch.weights.chunks_exact_mut(group).zip(partials.chunks_exact_mut(self.queries.head_dim + 2));
            for ((weights, partial), factor) in rows.zip(&mut factors) {
                *factor = soften::<I>(weights, group, partial);
            }
            self.weigh::<I, R>(values, &factors, scratch, partials);
        }
    }

    fn panels<'a>(&self, codes: &'a [u8], along: usize) -> Panels<'a> {
        Panels { codes, words: along / self.format.bits.per_word(), first: 0, bits: self.format.bits }
    }

    /// # Safety
    /// The processor has `I`.
    #[inline(always)]
    unsafe fn logits_per_channel<I: Isa, const R: usize>(&self, keys: Group<'_>, row: usize, scratch: &mut Scratch) {
        let (group, width) = (self.format.group as usize, scratch.widths[0]);
        let (steps, zeros) = keys.scales.split_at(width);
        let mut offsets = [0.0; R];
        // SAFETY: the caller vouches for the processor.
        unsafe {
            for (index, offset) in offsets.iter_mut().enumerate() {
                let query = &scratch.queries[(row + index) * width..][..width];
                let to = &mut scratch.factors[index * width..][..width];
                *offset = fold::<I>(query, steps, zeros, &scratch.unshift, to);
            }
            let logits = &mut scratch.weights[..R * group];
            multiply::<I, R>(self.panels(keys.codes, width), &scratch.factors, width, width, logits);
            for (logits, offset) in logits.chunks_exact_mut(group).zip(offsets) {
                logits.iter_mut().for_each(|logit| *logit += offset);
            }
        }
    }

    /// # Safety
    /// The processor has `I`.
    #[inline(always)]
    unsafe fn logits_per_token<I: Isa, const R: usize>(&self, keys: Group<'_>, row: usize, scratch: &mut Scratch) {
        let (group, width) = (self.format.group as usize, scratch.widths[0]);
        let Scratch { queries, factors, weights, sums, unshift, .. } = scratch;
        let (weights, sums) = (&mut weights[..R * group], &mut sums[..R * group]);
        weights.fill(0.0);
        for (part, scales) in keys.scales.chunks_exact(2 * group).enumerate() {
            let first = part * group;
            let count = group.min(width - first);
            let mut panels = self.panels(keys.codes, width);
            panels.first = first / self.format.bits.per_word();
            let mut totals = [0.0; R];
            for (index, total) in totals.iter_mut().enumerate() {
                let query = &queries[(row + index) * width + first..][..count];
                let to = &mut factors[index * count..][..count];
                for ((to, value), place) in to.iter_mut().zip(query).zip(unshift.iter().cycle()) {
                    *to = value * place;
                }
                *total = query.iter().sum();
            }
            // SAFETY: the processor has `I`; vectors end within the group, which all slices cover.
            unsafe {
                multiply::<I, R>(panels, factors, count, count, sums);
                for (index, total) in totals.into_iter().enumerate() {
                    let (sums, logits) = (&sums[index * group..][..group], &mut weights[index * group..][..group]);
                    for at in (0..group).step_by(I::LANES) {
                        let step = I::load_f16(scales[..group].as_ptr().add(at));
                        let zero = I::load_f16(scales[group..].as_ptr().add(at));
                        let logit = I::fma(step, I::load(sums.as_ptr().add(at)), I::load(logits.as_ptr().add(at)));
                        I::store(logits.as_mut_ptr().add(at), I::fma(zero, I::splat(total), logit));
                    }
                }
            }
        }
    }

    /// Adds the weighted values to the partial results, which are first scaled by `factors`.
    ///
    /// # Safety
    /// The processor has `I`.
    #[inline(always)]
    unsafe fn weigh<I: Isa, const R: usize>(
        &self,
        values: Group<'_>,
        scales_of_rows: &[f32; R],
        scratch: &mut Scratch,
        partials: &mut [f32],
    ) {
        let (group, dim, width) = (self.format.group as usize, self.queries.head_dim, scratch.widths[1]);
        let Scratch { factors, weights, sums, unshift, .. } = scratch;
        let mut codes = values.codes;
        for (part, scales) in values.scales.chunks_exact(2 * group).enumerate() {
            let first = part * group;
            let count = group.min(width - first);
            let (steps, zeros) = scales.split_at(group);
            let sums = &mut sums[..R * count];
            let mut offsets = [0.0; R];
            // SAFETY: the caller vouches for the processor.
            unsafe {
                for (index, offset) in offsets.iter_mut().enumerate() {
                    let (weights, to) = (&weights[index * group..][..group], &mut factors[index * group..][..group]);
                    *offset = fold::<I>(weights, steps, zeros, unshift, to);
                }
                let panels = self.panels(codes, group);
                multiply::<I, R>(panels, factors, group, group, sums);
            }
            let rows = partials.chunks_exact_mut(dim + 2).zip(sums.chunks_exact(count));
            for ((partial, sums), (scale, offset)) in rows.zip(scales_of_rows.iter().zip(offsets)) {
                let end = dim.min(first + count);
                for (value, sum) in partial[2 + first..2 + end].iter_mut().zip(sums) {
                    *value = *value * scale + (sum + offset);
                }
            }
            codes = &codes[count * group * self.format.bits.count() as usize / 8..];
        }
    }
}
