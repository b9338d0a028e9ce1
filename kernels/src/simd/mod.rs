//! Vectors of float32 on each instruction set, behind one trait: kernels are written once and stamped on each.
//!
//! A [`Kernel`] is entered through [`Isa::call`], the one function compiled for the instruction set; everything
//! under it is `#[inline(always)]` and so becomes part of it.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod math;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use math::{exp, silu};
pub(crate) use portable::Portable;

use half::{bf16, f16};

use crate::element::Element;

/// Work that is compiled for an instruction set.
pub(crate) trait Kernel<I: Isa> {
    /// What it gives.
    type Output;

    /// Does it. Implementations are `#[inline(always)]`.
    ///
    /// # Safety
    /// The processor has `I`.
    unsafe fn run(self) -> Self::Output;
}

/// An instruction set.
///
/// # Safety
/// Every method may only be called where the processor has the instruction set, which inside a [`Kernel`] its
/// caller has vouched for. Pointers must be valid for [`Self::LANES`] elements (`dot_bf16`: [`Self::BF16_STEP`]),
/// and need no alignment beyond their type's.
pub(crate) trait Isa: Copy + Send + Sync + 'static {
    /// Lanes of a vector.
    const LANES: usize;
    /// A vector of float32.
    type V: Copy;
    /// A vector of 32-bit words.
    type W: Copy;
    /// What bf16 elements are multiplied with: see [`Element::Factor`].
    type Bf16Factor: Element;
    /// Elements that a bf16 dot product step takes.
    const BF16_STEP: usize;

    /// Runs a kernel with the instruction set enabled.
    unsafe fn call<K: Kernel<Self>>(kernel: K) -> K::Output;

    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, value: Self::V);
    unsafe fn load_bf16(from: *const bf16) -> Self::V;
    unsafe fn store_bf16(to: *mut bf16, value: Self::V);
    unsafe fn load_f16(from: *const f16) -> Self::V;
    unsafe fn store_f16(to: *mut f16, value: Self::V);
    /// Words from little-endian bytes.
    unsafe fn words(from: *const u8) -> Self::W;
    /// Of each word, the bits that `mask`, below `2^31`, covers, as a number.
    unsafe fn masked(words: Self::W, mask: u32) -> Self::V;
    /// Each word without its lowest `shift` bits, at least one, as a number.
    unsafe fn shifted(words: Self::W, shift: u32) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// The larger; `b` where one is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` where one is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the instruction set can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// To the nearest integer.
    unsafe fn round(value: Self::V) -> Self::V;
    /// `2^exponent` for integers from -126 to 127.
    unsafe fn power_of_two(exponent: Self::V) -> Self::V;
    unsafe fn sum(value: Self::V) -> f32;
    unsafe fn largest(value: Self::V) -> f32;
    /// Sums of four vectors.
    unsafe fn sums(values: [Self::V; 4]) -> [f32; 4];
    /// What a bf16 element is multiplied as.
    fn bf16_factor(value: bf16) -> Self::Bf16Factor;
    /// See [`Element::outer`].
    unsafe fn outer_bf16(sum: Self::V, shared: *const Self::Bf16Factor, lanes: *const Self::Bf16Factor) -> Self::V;
    unsafe fn dot_bf16(sum: Self::V, factors: *const Self::Bf16Factor, from: *const bf16) -> Self::V;
    /// Asks for the cache line at `at`; any address will do.
    unsafe fn prefetch(at: *const u8);
}

/// Writes an instruction set's methods; their shared condition is [`Isa`]'s.
macro_rules! operations {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? { $($body:tt)* })*) => {$(
        #[inline(always)]
        unsafe fn $name($($argument: $type),*) $(-> $result)? {
            // SAFETY: the caller vouches for the instruction set and for what pointers cover; loads and stores are
            // the unaligned ones.
            unsafe { $($body)* }
        }
    )*};
}
use operations;
