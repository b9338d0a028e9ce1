// The best entries of each row of scores. A block takes one row, blockIdx.x.
//
// Four passes over the row find the key of the worst entry that is kept, eight bits at a time; a fifth lists what is kept
// in the order in which it lies. Of equal keys the earlier entries are kept.
#include "cuda/rows.cuh"

constexpr u32 WARPS = THREADS / WARP;
constexpr u32 DIGITS = 256;

// The smaller the better an entry is; as `key` of mod.rs: all NaNs are one and the best, both zeros are one.
__device__ inline u32 key_of(float score) {
    if (score != score) return 0;
    const u32 bits = score == 0 ? 0 : __float_as_uint(score);
    return bits >> 31 ? bits : ~(bits | 0x80000000u);
}

// Calls `keep(index, place)` for each of the best `count` of the block's row, 0 < count <= width. All threads of the block
// come here together.
template <class Keep>
__device__ inline void select(const float* scores, u32 width, u32 count, Keep keep) {
    __shared__ u32 histogram[DIGITS];
    __shared__ u32 chosen, wanted;
    __shared__ u32 betters[WARPS], equals[WARPS];
    const float* own = scores + u64(blockIdx.x) * width;
    const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;

    // Keys that start with less than `prefix` are kept, and `left` of those that start with it.
    u32 prefix = 0, left = count;
    for (u32 shift = 32; shift > 0;) {
        shift -= 8;
        for (u32 digit = threadIdx.x; digit < DIGITS; digit += THREADS) histogram[digit] = 0;
        __syncthreads();
        for (u32 at = threadIdx.x; at < width; at += THREADS) {
            const u32 key = key_of(own[at]);
            // Shifts by 32 are not defined; at first every key starts right.
            if (shift == 24 || key >> (shift + 8) == prefix) atomicAdd(&histogram[key >> shift & (DIGITS - 1)], 1u);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            u32 digit = 0, before = 0;
            while (before + histogram[digit] < left) before += histogram[digit++];
            chosen = digit;
            wanted = left - before;
        }
        __syncthreads();
        prefix = prefix << 8 | chosen;
        left = wanted;
    }

    // Now `prefix` is the whole key of the worst that is kept.
    u32 better_before = 0, equal_before = 0;
    for (u32 first = 0; first < width; first += THREADS) {
        const u32 at = first + threadIdx.x;
        const u32 key = at < width ? key_of(own[at]) : 0;
        const bool better = at < width && key < prefix, equal = at < width && key == prefix;
        const u32 better_lanes = __ballot_sync(ALL, better), equal_lanes = __ballot_sync(ALL, equal);
        if (lane == 0) {
            betters[warp] = __popc(better_lanes);
            equals[warp] = __popc(equal_lanes);
        }
        __syncthreads();
        const u32 earlier = (1u << lane) - 1;
        u32 place = better_before + __popc(better_lanes & earlier), rank = equal_before + __popc(equal_lanes & earlier);
        for (u32 other = 0; other < WARPS; ++other) {
            if (other < warp) {
                place += betters[other];
                rank += equals[other];
            }
            better_before += betters[other];
            equal_before += equals[other];
        }
        if (better || (equal && rank < left)) keep(at, place + min(rank, left));
        __syncthreads();
    }
}

// The indices of the best `count` of each row: `scores` is [rows, width], `best` is [rows, count].
extern "C" __global__ void __launch_bounds__(THREADS) best(const float* scores, i64* best, u32 width, u32 count) {
    i64* own = best + u64(blockIdx.x) * count;
    select(scores, width, count, [&](u32 index, u32 place) { own[place] = index; });
}

// Whether an entry is among the best of its row, of which `counts` has a number for each: `marks` is [rows, width], zeros.
extern "C" __global__ void __launch_bounds__(THREADS)
among_best(const float* scores, const i64* counts, u8* marks, u32 width) {
    u8* own = marks + u64(blockIdx.x) * width;
    const u32 count = counts[blockIdx.x];
    if (count > 0) select(scores, width, count, [&](u32 index, u32) { own[index] = 1; });
}
