// The number formats that kernels read and write, as element.rs has them. Arithmetic is float32 whatever the storage.
// Written out here, because CUDA's own headers are not part of its run-time compiler.
#pragma once

#include "cuda/machine.cuh"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

struct bf16 {
    u16 bits;
};

struct f16 {
    u16 bits;
};

__device__ inline float widen(float value) {
    return value;
}

__device__ inline float widen(bf16 value) {
    return __uint_as_float(u32(value.bits) << 16);
}

__device__ inline float widen(f16 value) {
    return half_to_float(value.bits);
}

__device__ inline void narrow(float value, float& to) {
    to = value;
}

__device__ inline void narrow(float value, bf16& to) {
    to.bits = float_to_bfloat(value);
}

__device__ inline void narrow(float value, f16& to) {
    to.bits = float_to_half(value);
}

// COUNT elements as float32: with one load where they fill 16 bytes, which must then be aligned.
template <int COUNT, class E>
__device__ inline void load(const E* from, float* to) {
    if constexpr (COUNT * sizeof(E) == 16) {
        struct alignas(16) Row {
            E elements[COUNT];
        };
        union {
            uint4 words;
            Row row;
        } vector;
        vector.words = *reinterpret_cast<const uint4*>(from);
#pragma unroll
        for (int index = 0; index < COUNT; ++index) {
            to[index] = widen(vector.row.elements[index]);
        }
    } else {
#pragma unroll
        for (int index = 0; index < COUNT; ++index) {
            to[index] = widen(from[index]);
        }
    }
}
