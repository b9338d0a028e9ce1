// The attention of query rows from their partial results over chunks of keys, which stream.cu writes.
//
// Constants: ELEMENT, the dtype; HEAD_DIM. A block merges one row: blockIdx.y is the group of rows, blockIdx.x the row.
#include "cuda/rows.cuh"

// As gpu.rs writes it: the rows that share a KV head in a sequence.
struct Group {
    u64 partials;  // first number of the partial results, [chunks, rows, 2 + HEAD_DIM]
    u32 chunks;
    u32 rows;
    u32 token;  // first token of the sequence in the batch
    u32 head;   // first query head of the KV head
};

constexpr int NUMBERS = HEAD_DIM + 2;

// `output` is [tokens, heads, HEAD_DIM]; `group` query heads share a KV head.
extern "C" __global__ void __launch_bounds__(THREADS)
merge(const Group* groups, const float* partials, ELEMENT* output, u32 heads, u32 group) {
    const Group own = groups[blockIdx.y];
    const u32 row = blockIdx.x;
    if (row >= own.rows) return;
    const float* first = partials + own.partials + u64(row) * NUMBERS;
    const u64 stride = u64(own.rows) * NUMBERS;

    float largest = -INFINITY, total = 0;
    for (u32 chunk = 0; chunk < own.chunks; ++chunk) largest = fmaxf(largest, first[chunk * stride]);
    for (u32 chunk = 0; chunk < own.chunks; ++chunk) {
        total = fmaf(weight_of(first[chunk * stride], largest), first[chunk * stride + 1], total);
    }
    // A row that sees nothing gets zeros.
    const float scale = total == 0 ? 0 : 1 / total;
    ELEMENT* to = output + (u64(own.token + row / group) * heads + own.head + row % group) * HEAD_DIM;
    for (u32 column = threadIdx.x; column < HEAD_DIM; column += THREADS) {
        float sum = 0;
        for (u32 chunk = 0; chunk < own.chunks; ++chunk) {
            const float* partial = first + chunk * stride;
            sum = fmaf(weight_of(partial[0], largest), partial[2 + column], sum);
        }
        narrow(sum * scale, to[column]);
    }
}
