// What the hardware does in one instruction and C++ has no word for; the emulator has a header of its own in its place.
#pragma once

#define INFINITY __int_as_float(0x7f800000)

typedef unsigned short half_bits;

__device__ inline float half_to_float(half_bits bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ inline half_bits float_to_half(float value) {
    half_bits bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

__device__ inline half_bits float_to_bfloat(float value) {
    half_bits bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// The sums of two pairs of bf16s.
__device__ inline unsigned add_pairs(unsigned left, unsigned right) {
    unsigned sums;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sums) : "r"(left), "r"(0x3f803f80), "r"(right));
    return sums;
}

// Adds a product of bf16 matrices, [16, 16] and [16, 8], to one in float32, all spread over a warp. With `lane` as
// 4 * r + c: `left` holds pairs of columns, 2c and 2c + 1 of rows r and r + 8, then 2c + 8 and 2c + 9 of both; `right`
// pairs of rows, 2c and 2c + 1, then 2c + 8 and 2c + 9, of column r; `sums` columns 2c and 2c + 1 of row r, then of r + 8.
__device__ inline void add_product(float (&sums)[4], const unsigned (&left)[4], const unsigned (&right)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
}
