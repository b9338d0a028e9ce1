// Few queries over many keys, the keys split over the blocks (flash decoding; Dao et al., 2023).
//
// Constants: ELEMENT, the dtype; HEAD_DIM; KEY_DIM, the channels of a key; ROWS, the query rows of a block; ALIGNED,
// whether rows start at multiples of 16 bytes.
//
// Each warp of a block runs an online softmax over tiles of 32 keys of its own: logits with a few lanes to a key, weights
// with a lane to a key, values with a few lanes to a value again. Every key and value is read once, straight from memory
// to registers. At the end the warps' results merge in shared memory.
#include "attention/span.cuh"

constexpr u32 TILE = WARP;

using Keys = Lanes<ELEMENT, KEY_DIM, ALIGNED>;
using Values = Lanes<ELEMENT, HEAD_DIM, ALIGNED>;

extern "C" __global__ void __launch_bounds__(THREADS)
attend(const Span* spans, const ELEMENT* query, float* partials, u32 heads, u32 group, float scale) {
    __shared__ float weights[WARPS][ROWS][TILE];
    __shared__ Found found;

    const Span span = spans[blockIdx.z];
    const u32 rows = span.tokens * group, first_row = blockIdx.x * ROWS, first_key = blockIdx.y * span.chunk;
    if (first_row >= rows || first_key >= span.length) return;
    const u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const u32 count = min(span.chunk, span.length - first_key);
    const ELEMENT* keys = static_cast<const ELEMENT*>(span.keys);
    const ELEMENT* values = static_cast<const ELEMENT*>(span.values);

    float queries[ROWS][Keys::OWN], output[ROWS][Values::OWN], top[ROWS], total[ROWS];
    u32 visible[ROWS];
#pragma unroll
    for (u32 row = 0; row < ROWS; ++row) {
        const u32 at = first_row + row, token = at / group;
        // Of the span's keys, a query sees all but the last ones, as many as there are later queries.
        const u32 hidden = span.causal ? span.tokens - 1 - min(token, span.tokens - 1) : 0;
        const u32 seen = span.length > hidden ? span.length - hidden : 0;
        visible[row] = at >= rows || seen < first_key ? 0 : min(count, seen - first_key);
        const ELEMENT* own = query + (u64(span.token + token) * heads + span.head + at % group) * HEAD_DIM;
#pragma unroll
        for (int index = 0; index < Keys::OWN; ++index) {
            const int column = Keys::column(lane, index);
            const bool there = at < rows && column < KEY_DIM;
            const i64 channel = there && span.channels ? span.channels[column] : column;
            queries[row][index] = there ? scale * widen(own[channel]) : 0.0f;
        }
#pragma unroll
        for (int index = 0; index < Values::OWN; ++index) output[row][index] = 0;
        top[row] = -INFINITY;
        total[row] = 0;
    }

    for (u32 tile = warp * TILE; tile < count; tile += WARPS * TILE) {
#pragma unroll
        for (u32 part = 0; part < TILE; part += Keys::AT_ONCE) {
            const u32 key = part + lane / Keys::LANES;
            float own[Keys::OWN];
            Keys::load(keys + u64(first_key + tile + key) * KEY_DIM, lane, tile + key >= count, own);
#pragma unroll
            for (u32 row = 0; row < ROWS; ++row) {
                float logit = 0;
#pragma unroll
                for (int index = 0; index < Keys::OWN; ++index) logit = fmaf(queries[row][index], own[index], logit);
                logit = sum_of<Keys::LANES>(logit);
                if (lane % Keys::LANES == 0) weights[warp][row][key] = logit;
            }
        }
        __syncwarp();
#pragma unroll
        for (u32 row = 0; row < ROWS; ++row) {
            const float logit = tile + lane < visible[row] ? weights[warp][row][lane] : -INFINITY;
            const float largest = fmaxf(top[row], largest_of<WARP>(logit));
            const float weight = weight_of(logit, largest), factor = weight_of(top[row], largest);
            weights[warp][row][lane] = weight;
            // Of the denominator every lane holds the terms of its own keys.
            total[row] = total[row] * factor + weight;
            top[row] = largest;
#pragma unroll
            for (int index = 0; index < Values::OWN; ++index) output[row][index] *= factor;
        }
        __syncwarp();
#pragma unroll
        for (u32 part = 0; part < TILE; part += Values::AT_ONCE) {
            const u32 key = part + lane / Values::LANES;
            float own[Values::OWN];
            Values::load(values + u64(first_key + tile + key) * HEAD_DIM, lane, tile + key >= count, own);
#pragma unroll
            for (u32 row = 0; row < ROWS; ++row) {
                const float weight = weights[warp][row][key];
#pragma unroll
                for (int index = 0; index < Values::OWN; ++index) {
                    output[row][index] = fmaf(weight, own[index], output[row][index]);
                }
            }
        }
        __syncwarp();
    }

#pragma unroll
    for (u32 row = 0; row < ROWS; ++row) {
        const float whole = sum_of<WARP>(total[row]);
        if (lane == 0) {
            found.tops[warp][row] = top[row];
            found.totals[warp][row] = whole;
        }
#pragma unroll
        for (int index = 0; index < Values::OWN; ++index) {
            float sum = output[row][index];
            // Lanes as far apart as a value's lanes are hold sums over other keys.
#pragma unroll
            for (int distance = Values::LANES; distance < int(WARP); distance *= 2) {
                sum += __shfl_xor_sync(ALL, sum, distance);
            }
            const int column = Values::column(lane, index);
            if (lane < Values::LANES && column < HEAD_DIM) found.sums[warp][row][column] = sum;
        }
    }
    __syncthreads();
    found.write(span, partials, blockIdx.y, first_row, rows);
}
