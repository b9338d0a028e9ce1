// Rows of heads, at strides of their own.
#pragma once

#include "cuda/rows.cuh"

// [batch, heads, tokens, width], as rows.rs has it: strides are in elements, 0 where an axis is repeated.
template <class E>
struct Rows {
    const E* base;
    u64 sequence_stride, head_stride, token_stride;

    // The first row of a head of all sequences' heads, `heads` in each.
    __device__ const E* head(u32 head, u32 heads) const {
        return base + head / heads * sequence_stride + head % heads * head_stride;
    }
};
