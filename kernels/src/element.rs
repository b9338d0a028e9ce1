//! The number formats that kernels read and write. Arithmetic is float32 whatever the storage.

use half::{bf16, f16};
use tch::Kind;

use crate::simd::Isa;

/// A storage format.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// libtorch's name for it.
    const KIND: Kind;

    /// What the other factor of a dot product is packed as: bf16 where the processor multiplies bf16, else float32.
    type Factor<I: Isa>: Element;

    /// Factors that one [`Self::dot`] takes.
    fn dot_step<I: Isa>() -> usize;

    /// Factors that make up a float32's width: the terms of a sum that [`Self::outer`] adds up in one lane.
    fn depth<I: Isa>() -> usize {
        size_of::<f32>() / size_of::<Self::Factor<I>>()
    }

    fn from_f32(value: f32) -> Self;
    fn to_f32(self) -> f32;

    /// The element as a factor; nothing is lost.
    fn factor<I: Isa>(self) -> Self::Factor<I>;

    /// `I::LANES` elements as float32.
    ///
    /// # Safety
    /// As [`Isa`]'s methods: the processor has `I`, and the pointer covers the elements.
    unsafe fn load<I: Isa>(from: *const Self) -> I::V;

    /// Rounds `I::LANES` values to the format.
    ///
    /// # Safety
    /// As [`Self::load`].
    unsafe fn store<I: Isa>(to: *mut Self, value: I::V);

    /// Adds products of [`Self::dot_step`] elements and factors to the lanes of `sum`.
    ///
    /// # Safety
    /// As [`Self::load`], for both pointers.
    unsafe fn dot<I: Isa>(sum: I::V, factors: *const Self::Factor<I>, from: *const Self) -> I::V;

    /// Adds to each lane the products of one [`Self::depth`] of factors, the same for all lanes, with the lane's own.
    ///
    /// # Safety
    /// As [`Self::load`]: `shared` covers a depth of factors, `lanes` one for each lane.
    unsafe fn outer<I: Isa>(sum: I::V, shared: *const Self::Factor<I>, lanes: *const Self::Factor<I>) -> I::V;
}

impl Element for f32 {
    const KIND: Kind = Kind::Float;
    type Factor<I: Isa> = f32;

    fn dot_step<I: Isa>() -> usize {
        I::LANES
    }

    fn from_f32(value: f32) -> Self {
        value
    }

    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn factor<I: Isa>(self) -> f32 {
        self
    }

    #[inline(always)]
    unsafe fn load<I: Isa>(from: *const Self) -> I::V {
        // SAFETY: passed on to the caller.
        unsafe { I::load(from) }
    }

    #[inline(always)]
    unsafe fn store<I: Isa>(to: *mut Self, value: I::V) {
        // SAFETY: passed on to the caller.
        unsafe { I::store(to, value) }
    }

    #[inline(always)]
    unsafe fn dot<I: Isa>(sum: I::V, factors: *const f32, from: *const Self) -> I::V {
        // SAFETY: passed on to the caller.
        unsafe { I::fma(I::load(factors), I::load(from), sum) }
    }

    #[inline(always)]
    unsafe fn outer<I: Isa>(sum: I::V, shared: *const f32, lanes: *const f32) -> I::V {
        // SAFETY: passed on to the caller.
        unsafe { I::fma(I::splat(*shared), I::load(lanes), sum) }
    }
}

impl Element for f16 {
    const KIND: Kind = Kind::Half;
    type Factor<I: Isa> = f32;

    fn dot_step<I: Isa>() -> usize {
        I::LANES
    }

    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn to_f32(self) -> f32 {
        Self::to_f32(self)
    }

    #[inline(always)]
    fn factor<I: Isa>(self) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    unsafe fn load<I: Isa>(from: *const Self) -> I::V {
        // SAFETY: passed on to the caller.
        unsafe { I::load_f16(from) }
    }

    #[inline(always)]
    unsafe fn store<I: Isa>(to: *mut Self, value: I::V) {
        // SAFETY: passed on to the caller.
        unsafe { I::store_f16(to, value) }
    }

    #[inline(always)]
    unsafe fn dot<I: Isa>(sum: I::V, factors: *const f32, from: *const Self) -> I::V {
        // SAFETY: passed on to the caller.
        unsafe { I::fma(I::load(factors), I::load_f16(from), sum) }
    }

    #[inline(always)]
    unsafe fn outer<I: Isa>(sum: I::V, shared: *const f32, lanes: *const f32) -> I::V {
        // SAFETY: passed on to the caller.
        unsafe { I::fma(I::splat(*shared), I::load(lanes), sum) }
    }
}

impl Element for bf16 {
    const KIND: Kind = Kind::BFloat16;
    type Factor<I: Isa> = I::Bf16Factor;

    fn dot_step<I: Isa>() -> usize {
        I::BF16_STEP
    }

    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn to_f32(self) -> f32 {
        Self::to_f32(self)
    }

    #[inline(always)]
    fn factor<I: Isa>(self) -> I::Bf16Factor {
        I::bf16_factor(self)
    }

    #[inline(always)]
    unsafe fn load<I: Isa>(from: *const Self) -> I::V {
        // SAFETY: passed on to the caller.
        unsafe { I::load_bf16(from) }
    }

    #[inline(always)]
    unsafe fn store<I: Isa>(to: *mut Self, value: I::V) {
        // SAFETY: passed on to the caller.
        unsafe { I::store_bf16(to, value) }
    }

    #[inline(always)]
    unsafe fn dot<I: Isa>(sum: I::V, factors: *const I::Bf16Factor, from: *const Self) -> I::V {
        // SAFETY: passed on to the caller.
        unsafe { I::dot_bf16(sum, factors, from) }
    }

    #[inline(always)]
    unsafe fn outer<I: Isa>(sum: I::V, shared: *const I::Bf16Factor, lanes: *const I::Bf16Factor) -> I::V {
        // SAFETY: passed on to the caller.
        unsafe { I::outer_bf16(sum, shared, lanes) }
    }
}
