// Quadratic forms of the rows of heads: a block computes those of TILE vectors with one matrix of their query group.
// blockIdx.x is the tile of vectors, blockIdx.y the matrix, blockIdx.z the head.
//
// Constants: ELEMENT, the vectors' dtype.
#include "cuda/tile.cuh"

// `vectors` are `heads` heads of each sequence, of `tokens` vectors of `width` channels. `matrices` and `linear` are of
// `heads * group` query heads of each sequence, [width, width] and [1, width]; `linear` may be null. `forms` is [query
// heads of all sequences, tokens].
extern "C" __global__ void __launch_bounds__(THREADS)
forms(Rows<ELEMENT> vectors, Rows<float> matrices, Rows<float> linear, float* forms, u32 heads, u32 group, u32 tokens,
      u32 width) {
    const u32 head = blockIdx.z * group + blockIdx.y, first = blockIdx.x * TILE;
    const ELEMENT* own = vectors.head(blockIdx.z, heads) + first * vectors.token_stride;
    const float* matrix = matrices.head(head, heads * group);
    const float* addend = linear.base ? linear.head(head, heads * group) : nullptr;
    const u32 rows = min(TILE, tokens - first);
    float totals[OWN] = {};
    for (u32 channel = 0; channel < width; channel += TILE) {
        float products[OWN][OWN];
        multiply(own, vectors.token_stride, rows, matrix + channel * matrices.token_stride, matrices.token_stride,
                 min(TILE, width - channel), width, products);
#pragma unroll
        for (u32 j = 0; j < OWN; ++j) {
            const u32 column = channel + column_of(j);
            if (column >= width) break;
            const float more = addend ? addend[column] : 0.0f;
#pragma unroll
            for (u32 i = 0; i < OWN; ++i) {
                if (row_of(i) >= rows) break;
                const float value = widen(own[row_of(i) * vectors.token_stride + column]);
                totals[i] = fmaf(value, products[i][j] + more, totals[i]);
            }
        }
    }
#pragma unroll
    for (u32 i = 0; i < OWN; ++i) {
        const float total = sum_of<SIDE>(totals[i]);
        if (threadIdx.x % SIDE == 0 && row_of(i) < rows) forms[u64(head) * tokens + first + row_of(i)] = total;
    }
}
