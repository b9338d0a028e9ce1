//! Exponentials on vectors.

use super::Isa;

/// `ln 2` in two parts, the first with so few bits that its products with exponents are exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// Taylor coefficients of `exp`, from the sixth power down: 1.2e-7 of the result where `|x| <= ln(2) / 2`.
const COEFFICIENTS: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];

/// `exp` of values up to 88, to a few units in the last place. Values below -87 give a number below 2e-38, NaN gives NaN.
///
/// # Safety
/// As [`Isa`].
#[inline(always)]
pub(crate) unsafe fn exp<I: Isa>(value: I::V) -> I::V {
    // SAFETY: passed on to the caller.
    unsafe {
        let value = I::max(I::splat(-87.3), value);
        let whole = I::round(I::mul(value, I::splat(std::f32::consts::LOG2_E)));
        let rest = I::fma(whole, I::splat(-LN_2[0]), value);
        let rest = I::fma(whole, I::splat(-LN_2[1]), rest);
        let mut power = I::splat(COEFFICIENTS[0]);
        for coefficient in &COEFFICIENTS[1..] {
            power = I::fma(power, rest, I::splat(*coefficient));
        }
        I::mul(power, I::power_of_two(whole))
    }
}

/// `x / (1 + exp(-x))`.
///
/// # Safety
/// As [`Isa`].
#[inline(always)]
pub(crate) unsafe fn silu<I: Isa>(value: I::V) -> I::V {
    // SAFETY: passed on to the caller.
    unsafe {
        let negated = I::min(I::splat(88.0), I::sub(I::splat(0.0), value));
        I::div(value, I::add(I::splat(1.0), exp::<I>(negated)))
    }
}
