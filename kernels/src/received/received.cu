// Attention that keys receive: the columns of a softmax over rows, summed, without the matrix.
//
// Constants: QUERY and KEY, the dtypes. Two kernels over tiles of TILE queries and TILE keys: `denominators` finds each
// query's largest logit and denominator over a chunk of the keys, `received` computes the logits again, in the same
// order, and sums each key's weights over the queries.
#include "cuda/tile.cuh"

// What either kernel is given: `heads` query heads, `kv_heads` KV heads of each sequence; `queries` queries of `width`
// channels over `tokens` keys. Query i is at position `first` + i. A key is at `positions`, or where that is null at its
// index. A query sees the keys up to its own position.
#define ATTENTION                                                                                                   \
    Rows<QUERY> queries, Rows<KEY> keys, Rows<i64> positions, u32 heads, u32 kv_heads, u32 count, u32 tokens,       \
        u32 width, i64 first, float scale

__device__ inline bool sees(const i64* positions, u64 stride, i64 query, u32 key) {
    return (positions ? positions[key * stride] : i64(key)) <= query;
}

// Head blockIdx.z of all sequences' query heads, as a head of all sequences' KV heads.
__device__ inline u32 kv_head_of(u32 heads, u32 kv_heads) {
    return blockIdx.z / heads * kv_heads + blockIdx.z % heads / (heads / kv_heads);
}

// The largest logit, times log2(e), and the denominator of a tile of queries, blockIdx.x, over a chunk of keys,
// blockIdx.y: `states` is [heads of all sequences, count, chunks, 2].
extern "C" __global__ void __launch_bounds__(THREADS) denominators(ATTENTION, float* states, u32 chunk) {
    const u32 kv_head = kv_head_of(heads, kv_heads), start = blockIdx.x * TILE;
    const QUERY* rows = queries.head(blockIdx.z, heads) + start * queries.token_stride;
    const KEY* columns = keys.head(kv_head, kv_heads);
    const i64* places = positions.base ? positions.head(kv_head, kv_heads) : nullptr;
    const u32 row_count = min(TILE, count - start);
    const u32 end = min(tokens, (blockIdx.y + 1) * chunk);
    float tops[OWN], totals[OWN] = {};
#pragma unroll
    for (u32 i = 0; i < OWN; ++i) tops[i] = -INFINITY;
    for (u32 tile = blockIdx.y * chunk; tile < end; tile += TILE) {
        // Without positions, what follows the tile's last query is seen by none of it.
        if (!places && i64(tile) > first + start + row_count - 1) break;
        const u32 column_count = min(TILE, end - tile);
        float logits[OWN][OWN];
        multiply(rows, queries.token_stride, row_count, columns + tile * keys.token_stride, keys.token_stride,
                 column_count, width, logits);
#pragma unroll
        for (u32 i = 0; i < OWN; ++i) {
            const i64 query = first + start + row_of(i);
            float top = tops[i], total = 0;
#pragma unroll
            for (u32 j = 0; j < OWN; ++j) {
                const u32 column = column_of(j);
                const bool there = column < column_count && sees(places, positions.token_stride, query, tile + column);
                logits[i][j] = there ? logits[i][j] * scale : -INFINITY;
                top = fmaxf(top, logits[i][j]);
            }
            top = largest_of<SIDE>(top);
#pragma unroll
            for (u32 j = 0; j < OWN; ++j) total += weight_of(logits[i][j], top);
            // Each thread has the denominator of its own keys.
            totals[i] = totals[i] * weight_of(tops[i], top) + total;
            tops[i] = top;
        }
    }
#pragma unroll
    for (u32 i = 0; i < OWN; ++i) {
        const float total = sum_of<SIDE>(totals[i]);
        if (threadIdx.x % SIDE == 0 && row_of(i) < row_count) {
            float* state = states + ((u64(blockIdx.z) * count + start + row_of(i)) * gridDim.y + blockIdx.y) * 2;
            state[0] = tops[i];
            state[1] = total;
        }
    }
}

// Weights that a tile of keys, blockIdx.x, receives from all queries: `sums` is [heads of all sequences, tokens].
// `states` are of `chunks` chunks.
extern "C" __global__ void __launch_bounds__(THREADS)
received(ATTENTION, const float* states, float* sums, u32 chunks) {
    __shared__ float tops[TILE], shares[TILE];
    __shared__ float parts[SIDE][TILE];
    const u32 kv_head = kv_head_of(heads, kv_heads), tile = blockIdx.x * TILE;
    const KEY* columns = keys.head(kv_head, kv_heads) + tile * keys.token_stride;
    const i64* places = positions.base ? positions.head(kv_head, kv_heads) : nullptr;
    const u32 column_count = min(TILE, tokens - tile);
    float received[OWN] = {};
    for (u32 start = 0; start < count; start += TILE) {
        const u32 row_count = min(TILE, count - start);
        // None of these queries sees the tile, and each of them sees the first key.
        if (!places && first >= 0 && i64(tile) > first + start + row_count - 1) continue;
        __syncthreads();
        if (threadIdx.x < row_count) {
            const float* state = states + (u64(blockIdx.z) * count + start + threadIdx.x) * chunks * 2;
            float top = -INFINITY, total = 0;
            for (u32 chunk = 0; chunk < chunks; ++chunk) top = fmaxf(top, state[chunk * 2]);
            for (u32 chunk = 0; chunk < chunks; ++chunk) {
                total = fmaf(weight_of(state[chunk * 2], top), state[chunk * 2 + 1], total);
            }
            tops[threadIdx.x] = top;
            // A query that sees nothing weighs everything evenly.
            shares[threadIdx.x] = top == -INFINITY ? 1.0f / tokens : 1 / total;
        }
        float logits[OWN][OWN];
        multiply(queries.head(blockIdx.z, heads) + start * queries.token_stride, queries.token_stride, row_count, columns,
                 keys.token_stride, column_count, width, logits);
#pragma unroll
        for (u32 i = 0; i < OWN; ++i) {
            const u32 row = row_of(i);
            if (row >= row_count) break;
            const i64 query = first + start + row;
            const float top = tops[row];
#pragma unroll
            for (u32 j = 0; j < OWN; ++j) {
                const u32 column = column_of(j);
                if (top == -INFINITY) {
                    received[j] += shares[row];
                } else if (column < column_count && sees(places, positions.token_stride, query, tile + column)) {
                    received[j] = fmaf(weight_of(logits[i][j] * scale, top), shares[row], received[j]);
                }
            }
        }
    }
#pragma unroll
    for (u32 j = 0; j < OWN; ++j) parts[threadIdx.x / SIDE][column_of(j)] = received[j];
    __syncthreads();
    if (threadIdx.x < column_count) {
        float sum = 0;
        for (u32 part = 0; part < SIDE; ++part) sum += parts[part][threadIdx.x];
        sums[u64(blockIdx.z) * tokens + tile + threadIdx.x] = sum;
    }
}
