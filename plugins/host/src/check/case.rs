//! Layers made of numbers that depend on their place only, in memory of every kind.

use std::io;

use pressroom_plugin_abi::{PRESSROOM_DECODING, PRESSROOM_PREFILL};

use crate::instance::{RawModel, RawNeeds};
use crate::layer::{Dtype, Frame, Layer, Layout, Lent, Part};
use crate::memory::{Access, Guarded, Side, Source};

/// Bytes on either side of roomy memory.
const ROOM: usize = 1 << 16;

/// Tokens of which queries and hidden states are remembered while decoding.
const OBSERVED: usize = 3;

/// In what memory a tensor lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// In the middle of memory that may be read and written, so that only the values count.
    Roomy,
    /// Right beside the forbidden page on one side.
    Tight(Side),
}

/// A layer to be made. Equal cases give equal layers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) batch: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) tokens: usize,
    pub(super) dtype: Dtype,
    /// Numbers are rounded to bfloat16, whatever their type.
    pub(super) rounded: bool,
    /// Axes are swapped and have gaps between their elements.
    pub(super) strided: bool,
    /// Every second token was evicted before.
    pub(super) gaps: bool,
    pub(super) decoding: bool,
    /// Standard deviation of the numbers.
    pub(super) scale: f32,
    /// All tokens are the same.
    pub(super) repeated: bool,
    /// The first sequence is the one with this number.
    pub(super) first_sequence: usize,
    pub(super) seed: u64,
    pub(super) inputs: Placement,
    pub(super) read_only: bool,
    /// The memory is taken back after the call.
    pub(super) taken_back: bool,
}

impl Case {
    /// One sequence of float32 with two KV heads.
    pub(super) fn plain(tokens: usize, seed: u64) -> Self {
        Self {
            batch: 1,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            tokens,
            dtype: Dtype::F32,
            rounded: false,
            strided: false,
            gaps: false,
            decoding: false,
            scale: 1.0,
            repeated: false,
            first_sequence: 0,
            seed,
            inputs: Placement::Roomy,
            read_only: false,
            taken_back: false,
        }
    }

    /// The model of one layer that the case is about.
    pub(super) fn model(&self) -> RawModel {
        RawModel {
            name: "made-up".into(),
            layers: 1,
            heads: self.heads as i64,
            kv_heads: self.kv_heads as i64,
            head_dim: self.head_dim as i64,
            hidden_size: (self.heads * self.head_dim) as i64,
        }
    }

    /// Tokens of the context: as many as are in question, or twice as many where half of them are gone.
    fn context(&self) -> usize {
        if self.gaps { 2 * self.tokens } else { self.tokens }
    }

    fn position(&self, kv_head: usize, entry: usize) -> usize {
        if self.gaps { 2 * entry + kv_head % 2 } else { entry }
    }

    /// The number of a part at a place: roughly normal, from a hash of the place (SplitMix64, Steele et al., 2014).
    fn number(&self, part: u64, sequence: usize, head: usize, token: usize, channel: usize) -> f32 {
        let token = if self.repeated { 0 } else { token };
        let mut state = self.seed ^ (part << 56);
        for index in [sequence + self.first_sequence, head, token, channel] {
            state = mixed(state.wrapping_add(index as u64 + 1));
        }
        let sum: f32 = (0..4).map(|part| ((state >> (16 * part)) & 0xFFFF) as f32 / 65536.0 - 0.5).sum();
        let number = sum * 1.7 * self.scale;
        if self.rounded { f32::from_bits(bf16(number) << 16) } else { number }
    }

    /// Makes the layer, as far as `needs` asks for it.
    ///
    /// # Errors
    /// There is no memory left.
    pub(super) fn make(&self, needs: &RawNeeds) -> io::Result<Made> {
        let context = self.context();
        // While decoding, no more than the last tokens are remembered.
        let observed = if self.decoding { OBSERVED.min(context) } else { context };
        let last = |tokens: u64| usize::try_from(tokens).unwrap_or(usize::MAX).min(observed);
        let frame = Frame {
            phase: if self.decoding { PRESSROOM_DECODING } else { PRESSROOM_PREFILL },
            layer: 0,
            layers: 1,
            batch: self.batch as i64,
            heads: self.heads as i64,
            kv_heads: self.kv_heads as i64,
            head_dim: self.head_dim as i64,
            tokens: self.tokens as i64,
            context_start: 0,
            context_end: context as i64,
            seed: self.seed,
        };
        let mut made = Made { layer: Layer { frame, parts: Vec::new() }, memory: Vec::new() };
        let entries = [self.batch, self.kv_heads, self.tokens, self.head_dim];
        for (part, salt, read) in [(Part::Keys, 1, needs.keys), (Part::Values, 2, needs.values)] {
            if !read {
                continue;
            }
            made.add(self, part, self.dtype, &entries, |at| {
                self.number(salt, at[0], at[1], self.position(at[1], at[2]), at[3])
            })?;
        }
        made.add(self, Part::Positions, Dtype::I64, &entries[..3], |at| self.position(at[1], at[2]) as f32)?;
        let query = |at: &[usize], count: usize| self.number(3, at[0], at[1], context - count + at[2], at[3]);
        for (part, tokens, dtype) in
            [(Part::Queries, needs.queries, self.dtype), (Part::RotatedQueries, needs.rotated_queries, Dtype::F32)]
        {
            let count = last(tokens);
            if count > 0 {
                let shape = [self.batch, self.heads, count, self.head_dim];
                made.add(self, part, dtype, &shape, |at| query(at, count))?;
            }
        }
        let count = last(needs.attention);
        if count > 0 {
            let shape = [self.batch, self.heads, count, self.tokens];
            let rows = self.attention(count);
            let [heads, tokens] = [self.heads, self.tokens];
            made.add(self, Part::Attention, Dtype::F32, &shape, |at| {
                rows[((at[0] * heads + at[1]) * count + at[2]) * tokens + at[3]]
            })?;
        }
        if needs.hidden_states {
            let shape = [self.batch, observed, self.heads * self.head_dim];
            let first = context - observed;
            made.add(self, Part::HiddenStates, self.dtype, &shape, |at| {
                self.number(4, at[0], 0, first + at[1], at[2])
            })?;
        }
        if needs.attention_sums {
            let (rows, tokens) = (self.attention(observed), self.tokens);
            let sum = |row: usize, entry| (0..observed).map(|q| rows[(row * observed + q) * tokens + entry]).sum();
            let shape = [self.batch, self.heads, tokens];
            made.add(self, Part::AttentionSums, Dtype::F32, &shape, |at| sum(at[0] * self.heads + at[1], at[2]))?;
        }
        if needs.output_projection {
            let width = self.heads * self.head_dim;
            made.add(self, Part::OutputProjection, self.dtype, &[width, width], |at| {
                self.number(5, 0, 0, at[0], at[1])
            })?;
        }
        Ok(made)
    }

    /// Causal attention weights of the last `count` queries, row after row.
    fn attention(&self, count: usize) -> Vec<f32> {
        let mut rows = Vec::with_capacity(self.batch * self.heads * count * self.tokens);
        for (sequence, head, query) in (0..self.batch).flat_map(|sequence| {
            (0..self.heads).flat_map(move |head| (0..count).map(move |query| (sequence, head, query)))
        }) {
            let position = self.context() - count + query;
            let kv_head = head * self.kv_heads / self.heads;
            let logit = |entry: usize| {
                let at = self.position(kv_head, entry);
                let dot: f32 = (0..self.head_dim)
                    .map(|c| self.number(3, sequence, head, position, c) * self.number(1, sequence, kv_head, at, c))
                    .sum();
                if at <= position { dot / (self.head_dim as f32).sqrt() } else { f32::NEG_INFINITY }
            };
            let logits: Vec<f32> = (0..self.tokens).map(logit).collect();
            let largest = logits.iter().copied().fold(f32::MIN, f32::max);
            let weights: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
            let sum: f32 = weights.iter().sum();
            rows.extend(weights.iter().map(|weight| weight / sum.max(f32::MIN_POSITIVE)));
        }
        rows
    }
}

fn mixed(mut state: u64) -> u64 {
    state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

/// The upper half of a float32, rounded to nearest: its bfloat16.
fn bf16(number: f32) -> u32 {
    let bits = number.to_bits();
    (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
}

/// A layer and the memory that it lies in.
pub(super) struct Made {
    pub(super) layer: Layer,
    memory: Vec<Guarded>,
}

impl Made {
    /// Ends the loan: memory that is taken back cannot be read any more. Other memory stays until the process ends, so
    /// that a view that is kept is found where it is looked for, and nowhere else.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn end(mut self, taken_back: bool) -> io::Result<()> {
        for memory in self.memory.drain(..) {
            if taken_back {
                memory.allow(Access::None)?;
            }
            std::mem::forget(memory);
        }
        Ok(())
    }

    fn add(
        &mut self,
        case: &Case,
        part: Part,
        dtype: Dtype,
        shape: &[usize],
        number: impl Fn(&[usize]) -> f32,
    ) -> io::Result<()> {
        let shape: Vec<i64> = shape.iter().map(|length| *length as i64).collect();
        let layout = if case.strided { strided(dtype, &shape) } else { Layout::contiguous(dtype, &shape) };
        let (memory, data) = place(layout.byte_len(), case.inputs)?;
        let mut at = vec![0; shape.len()];
        for index in 0..shape.iter().product::<i64>() {
            let mut rest = index;
            for axis in (0..shape.len()).rev() {
                at[axis] = (rest % shape[axis]) as usize;
                rest /= shape[axis];
            }
            let offset: i64 = at.iter().zip(&layout.strides).map(|(at, stride)| *at as i64 * stride).sum();
            // SAFETY: the offset of an element of the layout, for which the memory was made.
            unsafe { write(data.add(offset as usize * dtype.bytes()), dtype, number(&at)) };
        }
        if case.read_only {
            memory.allow(Access::Read)?;
        }
        self.layer.parts.push((part, Lent::read_only(data.cast(), layout)));
        self.memory.push(memory);
        Ok(())
    }
}

/// Memory for `len` bytes, and where they start.
///
/// # Errors
/// There is no memory left.
pub(super) fn place(len: usize, placement: Placement) -> io::Result<(Guarded, *mut u8)> {
    let (room, side) = match placement {
        Placement::Roomy => (ROOM, Side::Start),
        Placement::Tight(side) => (0, side),
    };
    let memory = Guarded::new(len + 2 * room, Source::Fresh, Access::Write, side)?;
    // SAFETY: within the memory just made.
    let data = unsafe { memory.data().add(room) };
    Ok((memory, data))
}

/// The first and the second last axis swapped in memory, two elements for each that counts, and gaps between rows.
fn strided(dtype: Dtype, shape: &[i64]) -> Layout {
    let mut order: Vec<usize> = (0..shape.len()).collect();
    if shape.len() > 2 {
        order.swap(shape.len() - 2, 0);
    }
    let mut strides = vec![0; shape.len()];
    let mut next = 2;
    for axis in order.into_iter().rev() {
        strides[axis] = next;
        next = next * shape[axis].max(1) + 1;
    }
    Layout { dtype, shape: shape.to_vec(), strides }
}

/// Writes one element.
///
/// # Safety
/// `to` is aligned and writable for an element of the type.
unsafe fn write(to: *mut u8, dtype: Dtype, number: f32) {
    // SAFETY: the caller's promise.
    unsafe {
        match dtype {
            Dtype::F32 => to.cast::<f32>().write(number),
            Dtype::I64 => to.cast::<i64>().write(number as i64),
            Dtype::Bf16 => to.cast::<u16>().write(bf16(number) as u16),
            Dtype::F16 => to.cast::<u16>().write(f16(number)),
        }
    }
}

/// Nearest IEEE 16-bit number of one that it can hold as a normal one; what is smaller becomes zero.
fn f16(number: f32) -> u16 {
    let bits = number.to_bits();
    let (sign, magnitude) = ((bits >> 16) & 0x8000, bits & 0x7FFF_FFFF);
    if magnitude < 0x3880_0000 {
        return sign as u16;
    }
    let rounded = magnitude + 0xFFF + ((magnitude >> 13) & 1);
    (sign | ((rounded - 0x3800_0000) >> 13).min(0x7BFF)) as u16
}
