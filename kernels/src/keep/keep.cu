// The listed rows of each head, copied one after another.
//
// Constants: WORD, of which rows are made. A thread copies one word; blockIdx.y is the head.
#include "cuda/heads.cuh"

// `rows` are `heads` heads of `tokens` rows of `words` words. Head h keeps those that `indices[offsets[h] ..
// offsets[h + 1]]` names, and writes them to the same rows of `kept`. `beyond` becomes 1 where there is no such row.
extern "C" __global__ void __launch_bounds__(THREADS)
keep(Rows<WORD> rows, const i64* indices, const i64* offsets, WORD* kept, u32* beyond, u32 heads, u32 tokens,
     u32 words) {
    const u64 index = u64(blockIdx.x) * THREADS + threadIdx.x;
    const u64 row = offsets[blockIdx.y] + index / words;
    const u32 word = index % words;
    if (row >= u64(offsets[blockIdx.y + 1])) return;
    const i64 token = indices[row];
    if (token < 0 || token >= tokens) {
        *beyond = 1;
        return;
    }
    kept[row * words + word] = rows.head(blockIdx.y, heads)[token * rows.token_stride + word];
}
