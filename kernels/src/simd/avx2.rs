//! AVX2 with FMA and F16C: 8 lanes; bf16 is widened to float32.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{Isa, Kernel, operations};

/// AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn enter<K: Kernel<Avx2>>(kernel: K) -> K::Output {
    // SAFETY: the caller vouches for the instruction set.
    unsafe { kernel.run() }
}

impl Isa for Avx2 {
    const LANES: usize = 8;
    type V = __m256;
    type W = __m256i;
    type Bf16Factor = f32;
    const BF16_STEP: usize = 8;

    unsafe fn call<K: Kernel<Self>>(kernel: K) -> K::Output {
        // SAFETY: passed on to the caller.
        unsafe { enter(kernel) }
    }

    #[inline(always)]
    fn bf16_factor(value: bf16) -> f32 {
        value.to_f32()
    }

    operations! {
        splat(value: f32) -> __m256 { _mm256_set1_ps(value) }
        load(from: *const f32) -> __m256 { _mm256_loadu_ps(from) }
        store(to: *mut f32, value: __m256) { _mm256_storeu_ps(to, value) }
        load_bf16(from: *const bf16) -> __m256 {
            _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())), 16))
        }
        store_bf16(to: *mut bf16, value: __m256) {
            // To nearest, ties to even: add half a step less one, plus the bit that makes the result odd.
            let bits = _mm256_castps_si256(value);
            let odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            // A NaN must not carry over into an infinity or a number.
            let nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
            let kept = _mm256_blendv_epi8(rounded, _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000)), nan);
            let halves = _mm256_srli_epi32(kept, 16);
            let packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(halves, halves), 0b10_00_10_00);
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(packed))
        }
        load_f16(from: *const f16) -> __m256 { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
        store_f16(to: *mut f16, value: __m256) {
            _mm_storeu_si128(to.cast(), _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT))
        }
        words(from: *const u8) -> __m256i { _mm256_loadu_si256(from.cast()) }
        masked(words: __m256i, mask: u32) -> __m256 {
            _mm256_cvtepi32_ps(_mm256_and_si256(words, _mm256_set1_epi32(mask as i32)))
        }
        shifted(words: __m256i, shift: u32) -> __m256 {
            _mm256_cvtepi32_ps(_mm256_srl_epi32(words, _mm_cvtsi32_si128(shift as i32)))
        }
        add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
        sub(a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
        mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        div(a: __m256, b: __m256) -> __m256 { _mm256_div_ps(a, b) }
        max(a: __m256, b: __m256) -> __m256 { _mm256_max_ps(a, b) }
        min(a: __m256, b: __m256) -> __m256 { _mm256_min_ps(a, b) }
        fma(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        round(value: __m256) -> __m256 { _mm256_round_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) }
        power_of_two(exponent: __m256) -> __m256 {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(exponent), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23))
        }
        sum(value: __m256) -> f32 {
            let half = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
            let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
        }
        largest(value: __m256) -> f32 {
            let half = _mm_max_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
            let pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)))
        }
        sums(values: [__m256; 4]) -> [f32; 4] {
            let quads = _mm256_hadd_ps(_mm256_hadd_ps(values[0], values[1]), _mm256_hadd_ps(values[2], values[3]));
            let total = _mm_add_ps(_mm256_castps256_ps128(quads), _mm256_extractf128_ps(quads, 1));
            std::mem::transmute::<__m128, [f32; 4]>(total)
        }
        outer_bf16(sum: __m256, shared: *const f32, lanes: *const f32) -> __m256 {
            Self::fma(Self::splat(*shared), Self::load(lanes), sum)
        }
        dot_bf16(sum: __m256, factors: *const f32, from: *const bf16) -> __m256 {
            _mm256_fmadd_ps(_mm256_loadu_ps(factors), Self::load_bf16(from), sum)
        }
        prefetch(at: *const u8) { _mm_prefetch(at.cast(), _MM_HINT_T0) }
    }
}
