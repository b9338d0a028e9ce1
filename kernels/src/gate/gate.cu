// silu(gate) * up: a thread computes one element, blockIdx.y is the token.
//
// Constants: ELEMENT, the dtype.
#include "cuda/element.cuh"

// `input` is [tokens, 2 width], gates first; `output` is [tokens, width].
extern "C" __global__ void __launch_bounds__(THREADS) silu_mul(const ELEMENT* input, ELEMENT* output, u32 width) {
    const u32 column = blockIdx.x * THREADS + threadIdx.x;
    if (column >= width) return;
    const ELEMENT* own = input + u64(blockIdx.y) * 2 * width;
    const float gate = widen(own[column]), up = widen(own[width + column]);
    narrow(gate / (1 + expf(-gate)) * up, output[u64(blockIdx.y) * width + column]);
}
