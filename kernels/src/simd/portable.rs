//! Plain Rust: 8 lanes in an array, which compilers turn into whatever vectors there are.

use half::{bf16, f16};

use super::{Isa, Kernel, operations};

/// Any processor.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

const LANES: usize = 8;

type Lanes = [f32; LANES];

#[inline(always)]
fn each(body: impl Fn(usize) -> f32) -> Lanes {
    std::array::from_fn(body)
}

impl Isa for Portable {
    const LANES: usize = LANES;
    type V = Lanes;
    type W = [u32; LANES];
    type Bf16Factor = f32;
    const BF16_STEP: usize = LANES;

    unsafe fn call<K: Kernel<Self>>(kernel: K) -> K::Output {
        // SAFETY: there is nothing to vouch for.
        unsafe { kernel.run() }
    }

    #[inline(always)]
    fn bf16_factor(value: bf16) -> f32 {
        value.to_f32()
    }

    operations! {
        load(from: *const f32) -> Lanes { from.cast::<Lanes>().read_unaligned() }
        store(to: *mut f32, value: Lanes) { to.cast::<Lanes>().write_unaligned(value) }
        load_bf16(from: *const bf16) -> Lanes { from.cast::<[bf16; LANES]>().read_unaligned().map(bf16::to_f32) }
        store_bf16(to: *mut bf16, value: Lanes) {
            to.cast::<[bf16; LANES]>().write_unaligned(value.map(bf16::from_f32))
        }
        load_f16(from: *const f16) -> Lanes { from.cast::<[f16; LANES]>().read_unaligned().map(f16::to_f32) }
        store_f16(to: *mut f16, value: Lanes) { to.cast::<[f16; LANES]>().write_unaligned(value.map(f16::from_f32)) }
        outer_bf16(sum: Lanes, shared: *const f32, lanes: *const f32) -> Lanes {
            Self::fma(Self::splat(*shared), Self::load(lanes), sum)
        }
        words(from: *const u8) -> [u32; LANES] { from.cast::<[[u8; 4]; LANES]>().read().map(u32::from_le_bytes) }
        dot_bf16(sum: Lanes, factors: *const f32, from: *const bf16) -> Lanes {
            Self::fma(Self::load(factors), Self::load_bf16(from), sum)
        }
    }

    #[inline(always)]
    unsafe fn masked(words: [u32; LANES], mask: u32) -> Lanes {
        words.map(|word| (word & mask) as f32)
    }

    #[inline(always)]
    unsafe fn shifted(words: [u32; LANES], shift: u32) -> Lanes {
        words.map(|word| (word >> shift) as f32)
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Lanes {
        [value; LANES]
    }

    #[inline(always)]
    unsafe fn power_of_two(exponent: Lanes) -> Lanes {
        exponent.map(|exponent| f32::from_bits(((exponent as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    unsafe fn add(a: Lanes, b: Lanes) -> Lanes {
        each(|lane| a[lane] + b[lane])
    }

    #[inline(always)]
    unsafe fn sub(a: Lanes, b: Lanes) -> Lanes {
        each(|lane| a[lane] - b[lane])
    }

    #[inline(always)]
    unsafe fn mul(a: Lanes, b: Lanes) -> Lanes {
        each(|lane| a[lane] * b[lane])
    }

    #[inline(always)]
    unsafe fn div(a: Lanes, b: Lanes) -> Lanes {
        each(|lane| a[lane] / b[lane])
    }

    #[inline(always)]
    unsafe fn max(a: Lanes, b: Lanes) -> Lanes {
        each(|lane| if a[lane] > b[lane] { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    unsafe fn min(a: Lanes, b: Lanes) -> Lanes {
        each(|lane| if a[lane] < b[lane] { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    unsafe fn fma(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        each(|lane| a[lane] * b[lane] + c[lane])
    }

    #[inline(always)]
    unsafe fn round(value: Lanes) -> Lanes {
        // Adding and taking away 1.5 * 2^23 leaves an integer, for magnitudes up to 2^22.
        const SHIFT: f32 = 12_582_912.0;
        each(|lane| (value[lane] + SHIFT) - SHIFT)
    }

    #[inline(always)]
    unsafe fn sum(value: Lanes) -> f32 {
        value.iter().sum()
    }

    #[inline(always)]
    unsafe fn largest(value: Lanes) -> f32 {
        value.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    unsafe fn sums(values: [Lanes; 4]) -> [f32; 4] {
        values.map(|value| value.iter().sum())
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
}
