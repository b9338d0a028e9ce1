//! Attention over a chunk of keys as plain numbers: what threads compute and one of them merges.

use crate::element::Element;
use crate::simd::{self, Isa, Kernel};

/// Partial results of some query rows, `head_dim + 2` numbers each: the largest logit, the softmax denominator
/// relative to it, and the weighted sum of values. Over no keys: minus infinity and zeros.
pub(super) fn clear(partials: &mut [f32], head_dim: usize) {
    partials.fill(0.0);
    for row in partials.chunks_exact_mut(head_dim + 2) {
        row[0] = f32::NEG_INFINITY;
    }
}

/// Merges the partial results of one query row over several chunks.
pub(super) struct Merge<'a, E> {
    /// Partial results, the chunks' rows one after another. The merged row's are used up.
    pub(super) partials: &'a mut [f32],
    /// Numbers from one chunk's row to the next chunk's.
    pub(super) stride: usize,
    /// Where the row starts.
    pub(super) start: usize,
    /// Where the attention goes.
    pub(super) output: &'a mut [E],
}

impl<I: Isa, E: Element> Kernel<I> for Merge<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(self) {
        let head_dim = self.output.len();
        let vectors = head_dim - head_dim % I::LANES;
        let starts = (self.start..self.partials.len()).step_by(self.stride);
        let largest = starts.clone().map(|at| self.partials[at]).fold(f32::NEG_INFINITY, f32::max);
        let mut total = 0.0;
        for at in starts.clone() {
            // The chunk's weight takes the place of its logit. Over no keys it is zero, also where all chunks are such.
            let logit = self.partials[at];
            let weight = if logit == f32::NEG_INFINITY { 0.0 } else { (logit - largest).exp() };
            self.partials[at] = weight;
            total += self.partials[at + 1] * weight;
        }
        let chunks = || starts.clone().map(|at| &self.partials[at..][..head_dim + 2]);
        let scale = if total == 0.0 { 0.0 } else { 1.0 / total };
        // SAFETY: the processor has `I`; vectors end within the rows of `head_dim` numbers.
        unsafe {
            for at in (0..vectors).step_by(I::LANES) {
                let mut sum = I::splat(0.0);
                for row in chunks() {
                    sum = I::fma(I::splat(row[0]), I::load(row.as_ptr().add(2 + at)), sum);
                }
                E::store::<I>(self.output.as_mut_ptr().add(at), I::mul(sum, I::splat(scale)));
            }
        }
        for at in vectors..head_dim {
            let sum: f32 = chunks().map(|row| row[0] * row[2 + at]).sum();
            self.output[at] = E::from_f32(sum * scale);
        }
    }
}

/// Turns a row's logits into weights relative to the largest logit so far, and brings its partial result to that
/// scale. Logits beyond `visible` become zero weights. Gives the factor that the weighted sum of values is due.
///
/// # Safety
/// The processor has `I`; `logits` has room for whole vectors over `visible`.
#[inline(always)]
pub(super) unsafe fn soften<I: Isa>(logits: &mut [f32], visible: usize, partial: &mut [f32]) -> f32 {
    if visible == 0 {
        logits.fill(0.0);
        return 1.0;
    }
    logits[visible..].fill(f32::NEG_INFINITY);
    // SAFETY: the processor has `I`, and vectors start below `visible` in memory that ends with a whole vector.
    unsafe {
        let mut top = I::splat(f32::NEG_INFINITY);
        for at in (0..visible).step_by(I::LANES) {
            top = I::max(top, I::load(logits.as_ptr().add(at)));
        }
        let largest = partial[0].max(I::largest(top));
        let mut total = I::splat(0.0);
        for at in (0..visible).step_by(I::LANES) {
            let weight = simd::exp::<I>(I::sub(I::load(logits.as_ptr().add(at)), I::splat(largest)));
            total = I::add(total, weight);
            I::store(logits.as_mut_ptr().add(at), weight);
        }
        logits[visible..].fill(0.0);
        let factor = if partial[0] == f32::NEG_INFINITY { 0.0 } else { (partial[0] - largest).exp() };
        partial[0] = largest;
        partial[1] = partial[1] * factor + I::sum(total);
        factor
    }
}
