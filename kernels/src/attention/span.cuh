// What the kernels of attention over spans of keys share. All are
//
//     attend(const Span* spans, const ELEMENT* query, float* partials, u32 heads, u32 group, float scale)
//
// where `query` is [tokens, heads, HEAD_DIM], `group` query heads share a KV head, and logits are multiplied by `scale`,
// so that 2 is the base of their weights. Partial results are [chunks, rows, 2 + HEAD_DIM] of a span: largest logit,
// denominator, weighted sum of values.
//
// A block attends with ROWS query rows over a chunk of the keys of one KV head: blockIdx.z is the span of keys,
// blockIdx.y the chunk, blockIdx.x the tile of ROWS rows: tiles that read the same keys run side by side.
#pragma once

#include "cuda/rows.cuh"

// As geometry.rs writes it. Keys and values are plain rows, or codes with steps and zeros.
struct Span {
    const void* keys;
    const void* values;
    const f16* key_scales;
    const f16* value_scales;
    const i64* channels;  // of the keys, [KEY_DIM]; null: all
    u64 partials;         // first number of the partial results of its first chunk
    u32 length;           // keys
    u32 chunk;            // keys of a chunk
    u32 token;            // first token of the sequence in the batch
    u32 tokens;           // new tokens of the sequence
    u32 head;             // first query head of the KV head
    u32 causal;           // whether the queries belong to the last keys
};

constexpr u32 WARPS = THREADS / WARP;
constexpr int NUMBERS = HEAD_DIM + 2;

// What the warps of a block have found, each over keys of its own.
struct Found {
    float sums[WARPS][ROWS][HEAD_DIM];
    float tops[WARPS][ROWS], totals[WARPS][ROWS];

    // Writes the partial results of the block's rows, all warps together; what was found is in place.
    __device__ void write(const Span& span, float* partials, u32 chunk, u32 first_row, u32 rows) const {
        for (u32 at = threadIdx.x; at < ROWS * NUMBERS; at += THREADS) {
            const u32 row = at / NUMBERS, number = at % NUMBERS;
            if (first_row + row >= rows) break;
            float largest = -INFINITY, sum = 0;
            for (u32 warp = 0; warp < WARPS; ++warp) largest = fmaxf(largest, tops[warp][row]);
            for (u32 warp = 0; warp < WARPS; ++warp) {
                const float term = number == 1 ? totals[warp][row] : sums[warp][row][number < 2 ? 0 : number - 2];
                sum = fmaf(weight_of(tops[warp][row], largest), term, sum);
            }
            float* partial = partials + span.partials + (u64(chunk) * rows + first_row + row) * NUMBERS;
            partial[number] = number == 0 ? largest : sum;
        }
    }
};
