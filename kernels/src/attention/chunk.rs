//! A thread's share of streamed attention: some query rows over consecutive keys of one KV head.

use super::partial::soften;
use crate::element::Element;
use crate::simd::{Isa, Kernel};

/// Keys whose logits are held at a time; their values are still close when the weights are known.
const BLOCK: usize = 64;

/// Query rows computed together.
const ROWS: usize = 4;

/// Keys computed together.
const KEYS: usize = 4;

/// Query rows of one KV head: token after token, in each the heads of one group.
#[derive(Clone, Copy)]
pub(super) struct Queries<'a, F> {
    /// The packed queries, from the first row on.
    pub(super) factors: &'a [F],
    /// Factors from a token's row to that of the next token.
    pub(super) token_stride: usize,
    pub(super) tokens: usize,
    /// Query heads of the KV head.
    pub(super) group: usize,
    pub(super) head_dim: usize,
    pub(super) scale: f32,
}

impl<'a, F> Queries<'a, F> {
    pub(super) fn rows(&self) -> usize {
        self.tokens * self.group
    }

    pub(super) fn row(&self, row: usize) -> &'a [F] {
        let start = row / self.group * self.token_stride + row % self.group * self.head_dim;
        &self.factors[start..start + self.head_dim]
    }
}

/// Query rows and the keys that they attend over.
pub(super) struct Chunk<'a, E: Element, F> {
    pub(super) queries: Queries<'a, F>,
    /// `[keys, head_dim]`
    pub(super) keys: &'a [E],
    pub(super) values: &'a [E],
    /// Causal: keys of the part that come after this chunk. Not causal: `None`.
    pub(super) hidden: Option<usize>,
}

/// A chunk and the partial results that it fills.
pub(super) struct Attend<'a, 'b, E: Element, F> {
    chunk: &'b Chunk<'a, E, F>,
    partials: &'b mut [f32],
}

impl<'a, E: Element, F> Chunk<'a, E, F> {
    /// The work over `partials`, `head_dim + 2` for each row; what is there already is added to.
    pub(super) fn over<'b>(&'b self, partials: &'b mut [f32]) -> Attend<'a, 'b, E, F> {
        Attend { chunk: self, partials }
    }

    /// Keys of this chunk that a query row sees: all but the part's last, as many as there are later queries.
    fn visible(&self, row: usize) -> usize {
        let keys = self.keys.len() / self.queries.head_dim;
        match self.hidden {
            None => keys,
            Some(after) => {
                let later = self.queries.tokens - 1 - row / self.queries.group;
                keys.saturating_sub(later.saturating_sub(after))
            }
        }
    }
}

impl<I: Isa, E: Element> Kernel<I> for Attend<'_, '_, E, E::Factor<I>> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(self) {
        let keys = self.chunk.keys.len() / self.chunk.queries.head_dim;
        for block in (0..keys).step_by(BLOCK) {
            for (index, partials) in self.partials.chunks_mut(ROWS * (self.chunk.queries.head_dim + 2)).enumerate() {
                let row = index * ROWS;
                // SAFETY: the processor has `I`.
                unsafe {
                    match self.chunk.queries.rows() - row {
                        1 => self.chunk.tile::<I, 1>(row, block, partials),
                        2 => self.chunk.tile::<I, 2>(row, block, partials),
                        3 => self.chunk.tile::<I, 3>(row, block, partials),
                        _ => self.chunk.tile::<I, 4>(row, block, partials),
                    }
                }
            }
        }
    }
}

impl<E: Element, F: Element> Chunk<'_, E, F> {
    /// `R` query rows over the keys of a block.
    ///
    /// # Safety
    /// The processor has `I`.
    #[inline(always)]
    unsafe fn tile<I: Isa, const R: usize>(&self, row: usize, block: usize, partials: &mut [f32])
    where
        E: Element<Factor<I> = F>,
    {
        let dim = self.queries.head_dim;
        let range = block * dim..self.keys.len().min((block + BLOCK) * dim);
        let (keys, values) = (&self.keys[range.clone()], &self.values[range]);
        let mut logits = [[0.0; BLOCK]; R];
        let mut factors = [0.0; R];
        // SAFETY: the processor has `I`.
        unsafe {
            self.logits::<I, R>(row, keys, values, &mut logits);
            for (index, partial) in partials.chunks_exact_mut(dim + 2).enumerate() {
                let visible = self.visible(row + index).saturating_sub(block).min(keys.len() / dim);
                factors[index] = soften::<I>(&mut logits[index], visible, partial);
            }
        }
        let mut at = 0;
        // SAFETY: the processor has `I`; the lanes from `at` on are within `head_dim`.
        unsafe {
            if I::LANES >= 16 {
                while at + 4 * I::LANES <= dim {
                    weigh::<I, E, R, 4>(&logits, &factors, values, at, dim, partials);
                    at += 4 * I::LANES;
                }
            }
            while at + 2 * I::LANES <= dim {
                weigh::<I, E, R, 2>(&logits, &factors, values, at, dim, partials);
                at += 2 * I::LANES;
            }
            while at + I::LANES <= dim {
                weigh::<I, E, R, 1>(&logits, &factors, values, at, dim, partials);
                at += I::LANES;
            }
        }
        for (index, partial) in partials.chunks_exact_mut(dim + 2).enumerate() {
            for channel in at..dim {
                let sum: f32 = values
                    .chunks_exact(dim)
                    .zip(&logits[index])
                    .map(|(value, weight)| value[channel].to_f32() * weight)
                    .sum();
                partial[2 + channel] = partial[2 + channel] * factors[index] + sum;
            }
        }
    }

    /// Scaled products of `R` query rows with all `keys`; asks for their values and the keys of the next block, which
    /// are due next: the processor's own look-ahead ends with a page.
    ///
    /// # Safety
    /// The processor has `I`.
    #[inline(always)]
    unsafe fn logits<I: Isa, const R: usize>(
        &self,
        row: usize,
        keys: &[E],
        values: &[E],
        logits: &mut [[f32; BLOCK]; R],
    ) where
        E: Element<Factor<I> = F>,
    {
        let dim = self.queries.head_dim;
        let count = keys.len() / dim;
        let step = E::dot_step::<I>();
        let vectors = dim - dim % step;
        let mut queries: [&[F]; R] = [&[]; R];
        for (index, query) in queries.iter_mut().enumerate() {
            *query = self.queries.row(row + index);
        }
        for first in (0..count).step_by(KEYS) {
            // Beyond the last key, that key again; its logits are not used.
            let mut own: [&[E]; KEYS] = [&[]; KEYS];
            for (index, key) in own.iter_mut().enumerate() {
                let at = (first + index).min(count - 1) * dim;
                *key = &keys[at..at + dim];
            }
            // SAFETY: the processor has `I`; steps end within the rows of `head_dim` elements. Any address can be
            // asked for.
            unsafe {
                for ahead in
                    [values.as_ptr().wrapping_add(first * dim), keys.as_ptr().wrapping_add((BLOCK + first) * dim)]
                {
                    for line in (0..KEYS * dim * size_of::<E>()).step_by(64) {
                        I::prefetch(ahead.cast::<u8>().wrapping_add(line));
                    }
                }
                let mut lanes = [[I::splat(0.0); KEYS]; R];
                for at in (0..vectors).step_by(step) {
                    for index in 0..R {
                        for key in 0..KEYS {
                            lanes[index][key] = E::dot::<I>(
                                lanes[index][key],
                                queries[index].as_ptr().add(at),
                                own[key].as_ptr().add(at),
                            );
                        }
                    }
                }
                for index in 0..R {
                    let mut sums = I::sums(lanes[index]);
                    for (sum, key) in sums.iter_mut().zip(own) {
                        for (factor, element) in queries[index][vectors..].iter().zip(&key[vectors..]) {
                            *sum += factor.to_f32() * element.to_f32();
                        }
                        *sum *= self.queries.scale;
                    }
                    logits[index][first..first + KEYS].copy_from_slice(&sums);
                }
            }
        }
    }
}

/// Adds the weighted values' channels `at..at + N * LANES` to the partial results, which are first scaled by `factors`.
///
/// # Safety
/// The processor has `I`, and the channels are within `dim`.
#[inline(always)]
unsafe fn weigh<I: Isa, E: Element, const R: usize, const N: usize>(
    weights: &[[f32; BLOCK]; R],
    factors: &[f32; R],
    values: &[E],
    at: usize,
    dim: usize,
    partials: &mut [f32],
) {
    let count = values.len() / dim;
    assert!(count <= BLOCK && partials.len() == R * (dim + 2) && at + N * I::LANES <= dim);
    // SAFETY: the processor has `I`; rows of `values` and `partials` hold `dim` channels, past the partials' two.
    unsafe {
        let mut sums = [[I::splat(0.0); N]; R];
        for index in 0..R {
            for part in 0..N {
                let from = partials.as_ptr().add(index * (dim + 2) + 2 + at + part * I::LANES);
                sums[index][part] = I::mul(I::load(from), I::splat(factors[index]));
            }
        }
        for key in 0..count {
            let mut weight = [I::splat(0.0); R];
            for index in 0..R {
                weight[index] = I::splat(weights[index][key]);
            }
            for part in 0..N {
                let value = E::load::<I>(values.as_ptr().add(key * dim + at + part * I::LANES));
                for index in 0..R {
                    sums[index][part] = I::fma(weight[index], value, sums[index][part]);
                }
            }
        }
        for index in 0..R {
            for part in 0..N {
                let to = partials.as_mut_ptr().add(index * (dim + 2) + 2 + at + part * I::LANES);
                I::store(to, sums[index][part]);
            }
        }
    }
}
