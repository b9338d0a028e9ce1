//! AVX-512 with bf16 products: 16 lanes, and two bf16 products a lane and instruction.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{Isa, Kernel, operations};

/// AVX-512 F, BW, VL, DQ and BF16, with AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")]
unsafe fn enter<K: Kernel<Avx512>>(kernel: K) -> K::Output {
    // SAFETY: the caller vouches for the instruction set.
    unsafe { kernel.run() }
}

impl Isa for Avx512 {
    const LANES: usize = 16;
    type V = __m512;
    type W = __m512i;
    type Bf16Factor = bf16;
    const BF16_STEP: usize = 32;

    unsafe fn call<K: Kernel<Self>>(kernel: K) -> K::Output {
        // SAFETY: passed on to the caller.
        unsafe { enter(kernel) }
    }

    #[inline(always)]
    fn bf16_factor(value: bf16) -> bf16 {
        value
    }

    operations! {
        splat(value: f32) -> __m512 { _mm512_set1_ps(value) }
        load(from: *const f32) -> __m512 { _mm512_loadu_ps(from) }
        store(to: *mut f32, value: __m512) { _mm512_storeu_ps(to, value) }
        load_bf16(from: *const bf16) -> __m512 {
            _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())), 16))
        }
        store_bf16(to: *mut bf16, value: __m512) {
            _mm256_storeu_si256(to.cast(), std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(value)))
        }
        load_f16(from: *const f16) -> __m512 { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
        store_f16(to: *mut f16, value: __m512) {
            _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT))
        }
        words(from: *const u8) -> __m512i { _mm512_loadu_si512(from.cast()) }
        masked(words: __m512i, mask: u32) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_and_si512(words, _mm512_set1_epi32(mask as i32)))
        }
        shifted(words: __m512i, shift: u32) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_srl_epi32(words, _mm_cvtsi32_si128(shift as i32)))
        }
        add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        fma(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        round(value: __m512) -> __m512 { _mm512_roundscale_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) }
        power_of_two(exponent: __m512) -> __m512 { _mm512_scalef_ps(_mm512_set1_ps(1.0), exponent) }
        sum(value: __m512) -> f32 { _mm512_reduce_add_ps(value) }
        largest(value: __m512) -> f32 { _mm512_reduce_max_ps(value) }
        sums(values: [__m512; 4]) -> [f32; 4] {
            // Halves of two vectors add up to one vector, twice: a quarter of the lanes is left of each of the four.
            let [a, b, c, d] = values;
            let ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0b01_00_01_00), _mm512_shuffle_f32x4(a, b, 0b11_10_11_10));
            let cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0b01_00_01_00), _mm512_shuffle_f32x4(c, d, 0b11_10_11_10));
            let quarters =
                _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0b10_00_10_00), _mm512_shuffle_f32x4(ab, cd, 0b11_01_11_01));
            let pairs = _mm512_add_ps(quarters, _mm512_permute_ps(quarters, 0b10_11_00_01));
            let singles = _mm512_add_ps(pairs, _mm512_permute_ps(pairs, 0b01_00_11_10));
            let packed = _mm512_maskz_compress_ps(0b0001_0001_0001_0001, singles);
            std::mem::transmute::<__m128, [f32; 4]>(_mm512_castps512_ps128(packed))
        }
        outer_bf16(sum: __m512, shared: *const bf16, lanes: *const bf16) -> __m512 {
            let (pair, lanes) = (shared.cast::<i32>().read_unaligned(), _mm512_loadu_si512(lanes.cast()));
            _mm512_dpbf16_ps(
                sum,
                std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair)),
                std::mem::transmute::<__m512i, __m512bh>(lanes),
            )
        }
        dot_bf16(sum: __m512, factors: *const bf16, from: *const bf16) -> __m512 {
            let (factors, elements) = (_mm512_loadu_si512(factors.cast()), _mm512_loadu_si512(from.cast()));
            _mm512_dpbf16_ps(
                sum,
                std::mem::transmute::<__m512i, __m512bh>(factors),
                std::mem::transmute::<__m512i, __m512bh>(elements),
            )
        }
        prefetch(at: *const u8) { _mm_prefetch(at.cast(), _MM_HINT_T0) }
    }
}
