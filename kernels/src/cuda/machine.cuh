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
