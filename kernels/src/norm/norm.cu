// RMSNorm: a block normalises one token, blockIdx.x.
//
// Constants: ELEMENT, the dtype.
#include "cuda/rows.cuh"

// `input` and `output` are [tokens, width], `weight` is [width].
extern "C" __global__ void __launch_bounds__(THREADS)
rms_norm(const ELEMENT* input, const ELEMENT* weight, ELEMENT* output, u32 width, float eps) {
    __shared__ float sums[THREADS / WARP];
    const ELEMENT* own = input + u64(blockIdx.x) * width;
    float squares = 0;
    for (u32 at = threadIdx.x; at < width; at += THREADS) {
        const float value = widen(own[at]);
        squares = fmaf(value, value, squares);
    }
    squares = sum_of<WARP>(squares);
    if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = squares;
    __syncthreads();
    float total = 0;
    for (u32 warp = 0; warp < THREADS / WARP; ++warp) total += sums[warp];
    const float scale = 1 / sqrtf(total / width + eps);
    ELEMENT* to = output + u64(blockIdx.x) * width;
    for (u32 at = threadIdx.x; at < width; at += THREADS) narrow(widen(own[at]) * scale * widen(weight[at]), to[at]);
}
