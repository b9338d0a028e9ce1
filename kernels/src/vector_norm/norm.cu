// L2 norms of the rows of heads: a few lanes take a row, blockIdx.y is the head.
//
// Constants: ELEMENT, the dtype; CHANNELS; ALIGNED, whether rows start at multiples of 16 bytes.
#include "cuda/heads.cuh"

typedef Lanes<ELEMENT, CHANNELS, ALIGNED> Row;

// `norms` is [heads of all sequences, tokens].
extern "C" __global__ void __launch_bounds__(THREADS)
norms(Rows<ELEMENT> rows, float* norms, u32 heads, u32 tokens) {
    const u32 lane = threadIdx.x % WARP;
    const u32 token = (blockIdx.x * THREADS + threadIdx.x) / Row::LANES;
    float own[Row::OWN], squares = 0;
    Row::load(rows.head(blockIdx.y, heads) + token * rows.token_stride, lane, token >= tokens, own);
#pragma unroll
    for (int index = 0; index < Row::OWN; ++index) squares = fmaf(own[index], own[index], squares);
    squares = sum_of<Row::LANES>(squares);
    if (lane % Row::LANES == 0 && token < tokens) norms[u64(blockIdx.y) * tokens + token] = sqrtf(squares);
}
