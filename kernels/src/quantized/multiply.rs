//! Products of a few rows of factors with panels of codes, which become float32 in registers and nowhere else.
//!
//! A code stays where it lies in its 32 bits: masked and converted it is `code * 2^shift`, and the factor is multiplied by
//! `2^-shift` beforehand, which is exact. Only the topmost code, whose mask would cover the sign, is shifted down.

use half::f16;

use super::panels::ROW;
use super::{Bits, LANES};
use crate::simd::{Isa, Kernel};

/// Vectors of codes side by side in registers: with four rows, what the registers hold.
const fn vectors<I: Isa>() -> usize {
    if I::LANES >= 16 { 4 } else { 2 }
}

/// What undoes the places of consecutive codes in their 32 bits; repeats after at most [`LANES`].
pub(crate) fn unshift(bits: Bits) -> [f32; LANES as usize] {
    std::array::from_fn(|index| {
        let field = index % bits.per_word();
        if field + 1 == bits.per_word() { 1.0 } else { 1.0 / (1u64 << (field as u32 * bits.count())) as f32 }
    })
}

/// Folds steps into the factors of a product, `to = weights * steps * unshift`, and gives `Σ weights * zeros`, which is
/// what the zeros add to every product. The lengths are multiples of [`LANES`].
///
/// # Safety
/// The processor has `I`.
#[inline(always)]
pub(crate) unsafe fn fold<I: Isa>(
    weights: &[f32],
    steps: &[f16],
    zeros: &[f16],
    unshift: &[f32; LANES as usize],
    to: &mut [f32],
) -> f32 {
    let count = weights.len() - weights.len() % LANES as usize;
    assert!(steps.len() >= count && zeros.len() >= count && to.len() >= count);
    // SAFETY: the processor has `I`; vectors of at most 16 lanes end within `count`, which all slices cover.
    unsafe {
        let mut sum = I::splat(0.0);
        for at in (0..count).step_by(I::LANES) {
            let weight = I::load(weights.as_ptr().add(at));
            sum = I::fma(weight, I::load_f16(zeros.as_ptr().add(at)), sum);
            let place = I::load(unshift.as_ptr().add(at % LANES as usize));
            let step = I::mul(I::load_f16(steps.as_ptr().add(at)), place);
            I::store(to.as_mut_ptr().add(at), I::mul(weight, step));
        }
        I::sum(sum)
    }
}

/// Panels of codes, `[panels, words, 64]`, of which a product takes some words.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    pub(crate) codes: &'a [u8],
    /// Words of a panel.
    pub(crate) words: usize,
    /// First of the words that are taken.
    pub(crate) first: usize,
    pub(crate) bits: Bits,
}

/// Sums of `R` rows of `factors` (`[R, stride]`, each `count` of them, whole words) with every lane of the panels, into
/// `sums` (`[R, sums.len() / R]`).
///
/// # Safety
/// The processor has `I`.
#[inline(always)]
pub(crate) unsafe fn multiply<I: Isa, const R: usize>(
    panels: Panels<'_>,
    factors: &[f32],
    stride: usize,
    count: usize,
    sums: &mut [f32],
) {
    // Functions of their own: inlined into every caller they are more than a compiler likes at once.
    // SAFETY: passed on to the caller.
    unsafe {
        match panels.bits {
            Bits::Two => I::call(Product::<R, 2> { panels, factors, stride, count, sums }),
            Bits::Four => I::call(Product::<R, 4> { panels, factors, stride, count, sums }),
            Bits::Eight => I::call(Product::<R, 8> { panels, factors, stride, count, sums }),
        }
    }
}

/// [`multiply`] for so many rows and bits.
struct Product<'a, const R: usize, const BITS: u32> {
    panels: Panels<'a>,
    factors: &'a [f32],
    stride: usize,
    count: usize,
    sums: &'a mut [f32],
}

impl<I: Isa, const R: usize, const BITS: u32> Kernel<I> for Product<'_, R, BITS> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(self) {
        let Self { panels, factors, stride, count, sums } = self;
        let lanes = sums.len() / R;
        let words = count / (32 / BITS) as usize;
        assert!(lanes.is_multiple_of(LANES as usize) && panels.first + words <= panels.words);
        assert!(lanes / LANES as usize * panels.words * ROW <= panels.codes.len());
        assert!((R - 1) * stride + count <= factors.len());
        let mut at = 0;
        // SAFETY: the processor has `I`; the lanes from `at` on are within `lanes`, and the assertions above hold.
        unsafe {
            if vectors::<I>() == 4 {
                while at + 4 * I::LANES <= lanes {
                    tile::<I, R, 4, BITS>(panels, factors, stride, words, at, sums);
                    at += 4 * I::LANES;
                }
            }
            while at + 2 * I::LANES <= lanes {
                tile::<I, R, 2, BITS>(panels, factors, stride, words, at, sums);
                at += 2 * I::LANES;
            }
            while at < lanes {
                tile::<I, R, 1, BITS>(panels, factors, stride, words, at, sums);
                at += I::LANES;
            }
        }
    }
}

/// `N` vectors of lanes from `lane` on.
///
/// # Safety
/// The processor has `I`; panels, factors and sums cover `words` words of these lanes.
#[inline(always)]
unsafe fn tile<I: Isa, const R: usize, const N: usize, const BITS: u32>(
    panels: Panels<'_>,
    factors: &[f32],
    stride: usize,
    words: usize,
    lane: usize,
    sums: &mut [f32],
) {
    let lanes = sums.len() / R;
    let fields = (32 / BITS) as usize;
    let mask = (1u32 << BITS) - 1;
    let start = |vector: usize| {
        let lane = lane + vector * I::LANES;
        (lane / LANES as usize * panels.words + panels.first) * ROW + lane % LANES as usize * 4
    };
    let starts: [usize; N] = std::array::from_fn(start);
    // SAFETY: the caller vouches for the processor and for what is read and written.
    unsafe {
        let mut tile = [[I::splat(0.0); N]; R];
        for word in 0..words {
            let mut own = [I::words(panels.codes.as_ptr().add(starts[0] + word * ROW)); N];
            for vector in 1..N {
                own[vector] = I::words(panels.codes.as_ptr().add(starts[vector] + word * ROW));
            }
            for field in 0..fields {
                let mut codes = [I::splat(0.0); N];
                for vector in 0..N {
                    codes[vector] = if field + 1 == fields {
                        I::shifted(own[vector], 32 - BITS)
                    } else {
                        I::masked(own[vector], mask << (field as u32 * BITS))
                    };
                }
                for row in 0..R {
                    let factor = I::splat(*factors.as_ptr().add(row * stride + word * fields + field));
                    for vector in 0..N {
                        tile[row][vector] = I::fma(factor, codes[vector], tile[row][vector]);
                    }
                }
            }
        }
        for row in 0..R {
            for vector in 0..N {
                I::store(sums.as_mut_ptr().add(row * lanes + lane + vector * I::LANES), tile[row][vector]);
            }
        }
    }
}
