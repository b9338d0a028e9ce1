//! Rows of codes back to float32, a block at a time: what attention reads stays as small as it is stored.

use half::f16;

use super::Bits;
use crate::simd::Isa;

/// Codes of `rows`, `[_, bytes]`, as keys `[_, head_dim]`: of one group, whose `scales` are steps and zeros
/// `[2, head_dim]`.
///
/// # Safety
/// The processor has `I`.
#[inline(always)]
pub(crate) unsafe fn unpack_keys<I: Isa>(rows: &[u8], bits: Bits, scales: &[f32], head_dim: usize, to: &mut [f32]) {
    let width = head_dim / bits.per_byte() as usize;
    let (steps, zeros) = scales.split_at(head_dim);
    for (codes, to) in rows.chunks_exact(width).zip(to.chunks_exact_mut(head_dim)) {
        for (field, to) in to.chunks_exact_mut(width).enumerate() {
            let (steps, zeros) = (&steps[field * width..][..width], &zeros[field * width..][..width]);
            let shift = field as u32 * bits.count();
            let vectors = width - width % I::LANES;
            // SAFETY: the processor has `I`; vectors end within the four slices of `width`.
            unsafe {
                for at in (0..vectors).step_by(I::LANES) {
                    let code = I::codes(codes.as_ptr().add(at), shift, bits.largest() as u32);
                    let value = I::fma(code, I::load(steps.as_ptr().add(at)), I::load(zeros.as_ptr().add(at)));
                    I::store(to.as_mut_ptr().add(at), value);
                }
            }
            for at in vectors..width {
                to[at] = code(codes[at], shift, bits) * steps[at] + zeros[at];
            }
        }
    }
}

/// Codes of `rows`, `[_, bytes]`, as values `[_, head_dim]`; each row has a step and a zero in `scales`, `[_, 2]`.
///
/// # Safety
/// The processor has `I`.
#[inline(always)]
pub(crate) unsafe fn unpack_values<I: Isa>(rows: &[u8], bits: Bits, scales: &[f16], head_dim: usize, to: &mut [f32]) {
    let width = head_dim / bits.per_byte() as usize;
    let rows = rows.chunks_exact(width).zip(scales.chunks_exact(2)).zip(to.chunks_exact_mut(head_dim));
    for ((codes, scales), to) in rows {
        let (step, zero) = (scales[0].to_f32(), scales[1].to_f32());
        for (field, to) in to.chunks_exact_mut(width).enumerate() {
            let shift = field as u32 * bits.count();
            let vectors = width - width % I::LANES;
            // SAFETY: the processor has `I`; vectors end within the two slices of `width`.
            unsafe {
                for at in (0..vectors).step_by(I::LANES) {
                    let code = I::codes(codes.as_ptr().add(at), shift, bits.largest() as u32);
                    I::store(to.as_mut_ptr().add(at), I::fma(code, I::splat(step), I::splat(zero)));
                }
            }
            for at in vectors..width {
                to[at] = code(codes[at], shift, bits) * step + zero;
            }
        }
    }
}

fn code(byte: u8, shift: u32, bits: Bits) -> f32 {
    f32::from(byte >> shift & bits.largest() as u8)
}
