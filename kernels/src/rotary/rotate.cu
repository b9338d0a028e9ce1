// Rotary embedding in its half-split form, written where it is wanted, and rows moved there as they are: the queries,
// keys and values of a whole batch in one launch.
//
// Constants: ELEMENT, the dtype. A thread computes the two elements of one pair; blockIdx.y is the job.
#include "cuda/element.cuh"

// As gpu.rs writes it. Strides are in elements.
struct Job {
    const ELEMENT* from;  // [tokens, heads, 2 half]
    ELEMENT* to;          // the same
    u64 from_token, from_head;
    u64 to_token, to_head;
    u32 tokens, heads;
    u32 first;   // row of its first token in the tables
    u32 rotate;  // or move only
};

// `cosines` and `sines` are [tokens, 2 half].
extern "C" __global__ void __launch_bounds__(THREADS)
rotate(const Job* jobs, const ELEMENT* cosines, const ELEMENT* sines, u32 half) {
    const Job job = jobs[blockIdx.y];
    const u64 index = u64(blockIdx.x) * THREADS + threadIdx.x;
    const u32 low = index % half, head = index / half % job.heads, high = low + half;
    const u64 token = index / half / job.heads;
    if (token >= job.tokens) return;
    const ELEMENT* from = job.from + token * job.from_token + head * job.from_head;
    ELEMENT* to = job.to + token * job.to_token + head * job.to_head;
    if (!job.rotate) {
        to[low] = from[low];
        to[high] = from[high];
        return;
    }
    const ELEMENT* cosine = cosines + (job.first + token) * 2 * half;
    const ELEMENT* sine = sines + (job.first + token) * 2 * half;
    const float x = widen(from[low]), y = widen(from[high]);
    narrow(x * widen(cosine[low]) - y * widen(sine[low]), to[low]);
    narrow(y * widen(cosine[high]) + x * widen(sine[high]), to[high]);
}
