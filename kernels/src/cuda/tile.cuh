// Products of many rows with many rows, a square tile of them in a block's registers.
#pragma once

#include "cuda/heads.cuh"

constexpr u32 TILE = 64;   // rows of either side
constexpr u32 SIDE = 16;   // threads along either side
constexpr u32 OWN = TILE / SIDE;
constexpr u32 DEPTH = 32;  // columns in shared memory at a time

static_assert(THREADS == SIDE * SIDE, "a thread has a square of the tile");

// The rows of either side that a thread's sums belong to are SIDE apart: `row_of` on the left, `column_of` on the right.
__device__ inline u32 row_of(u32 index) {
    return threadIdx.x / SIDE + index * SIDE;
}

__device__ inline u32 column_of(u32 index) {
    return threadIdx.x % SIDE + index * SIDE;
}

// DEPTH columns from `first` of TILE rows, turned so that a column is a row; zeros beyond `rows` and `width`.
template <class E>
__device__ inline void fetch(const E* from, u64 stride, u32 rows, u32 width, u32 first, float (&to)[DEPTH][TILE + 1]) {
    for (u32 at = threadIdx.x; at < TILE * DEPTH; at += THREADS) {
        const u32 row = at / DEPTH, depth = at % DEPTH;
        const bool there = row < rows && first + depth < width;
        to[depth][row] = there ? widen(from[row * stride + first + depth]) : 0.0f;
    }
}

// sums[i][j]: the product of row `row_of(i)` of the left and `column_of(j)` of the right, over `width` columns in their
// order. All threads of the block come here together.
template <class L, class R>
__device__ inline void multiply(const L* left, u64 left_stride, u32 left_rows, const R* right, u64 right_stride,
                                u32 right_rows, u32 width, float (&sums)[OWN][OWN]) {
    __shared__ float lefts[DEPTH][TILE + 1];
    __shared__ float rights[DEPTH][TILE + 1];
#pragma unroll
    for (u32 i = 0; i < OWN; ++i) {
#pragma unroll
        for (u32 j = 0; j < OWN; ++j) sums[i][j] = 0;
    }
    for (u32 first = 0; first < width; first += DEPTH) {
        __syncthreads();
        fetch(left, left_stride, left_rows, width, first, lefts);
        fetch(right, right_stride, right_rows, width, first, rights);
        __syncthreads();
#pragma unroll 8
        for (u32 depth = 0; depth < DEPTH; ++depth) {
            float a[OWN], b[OWN];
#pragma unroll
            for (u32 i = 0; i < OWN; ++i) {
                a[i] = lefts[depth][row_of(i)];
                b[i] = rights[depth][column_of(i)];
            }
#pragma unroll
            for (u32 i = 0; i < OWN; ++i) {
#pragma unroll
                for (u32 j = 0; j < OWN; ++j) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
            }
        }
    }
}
