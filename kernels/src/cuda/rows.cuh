// How the lanes of a warp share a row of numbers.
#pragma once

#include "cuda/element.cuh"

constexpr u32 WARP = 32;
constexpr u32 ALL = 0xffffffff;

__device__ constexpr int power_of_two_from(int number) {
    int power = 1;
    while (power < number) power *= 2;
    return power;
}

// A row of WIDTH elements of type E on LANES lanes, a power of two. A lane takes STEPS vectors of VECTOR elements, each
// LANES vectors after the one before, so that neighbours read what lies side by side. Where rows start at
// multiples of 16 bytes, a vector is that long, else one element.
template <class E, int WIDTH, bool WIDE>
struct Lanes {
    static constexpr int VECTOR = WIDE ? 16 / sizeof(E) : 1;
    static constexpr int VECTORS = (WIDTH + VECTOR - 1) / VECTOR;
    static constexpr int LANES = VECTORS >= int(WARP) ? int(WARP) : power_of_two_from(VECTORS);
    static constexpr int STEPS = (VECTORS + LANES - 1) / LANES;
    // Elements of a lane.
    static constexpr int OWN = STEPS * VECTOR;
    // Rows that a warp takes at a time.
    static constexpr int AT_ONCE = WARP / LANES;

    // Where the lane's element `index` is in the row; beyond WIDTH where the lane has fewer.
    __device__ static int column(u32 lane, int index) {
        return ((index / VECTOR) * LANES + int(lane % LANES)) * VECTOR + index % VECTOR;
    }

    // The lane's elements of a row; zeros where the row ends before them, or is `absent`.
    __device__ static void load(const E* row, u32 lane, bool absent, float (&own)[OWN]) {
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            int at = column(lane, step * VECTOR);
            if (absent || at >= WIDTH) {
#pragma unroll
                for (int index = 0; index < VECTOR; ++index) own[step * VECTOR + index] = 0;
            } else {
                ::load<VECTOR>(row + at, own + step * VECTOR);
            }
        }
    }
};

// The sum over groups of LANES neighbouring lanes, in all of them.
template <int LANES>
__device__ inline float sum_of(float value) {
#pragma unroll
    for (int distance = LANES / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(ALL, value, distance);
    return value;
}

// The largest value of groups of LANES neighbouring lanes, in all of them.
template <int LANES>
__device__ inline float largest_of(float value) {
#pragma unroll
    for (int distance = LANES / 2; distance > 0; distance /= 2) {
        value = fmaxf(value, __shfl_xor_sync(ALL, value, distance));
    }
    return value;
}

// 2 to the power of `exponent` - `largest`: a weight, which is zero where nothing is weighed.
__device__ inline float weight_of(float exponent, float largest) {
    return exponent == -INFINITY ? 0.0f : exp2f(exponent - largest);
}
