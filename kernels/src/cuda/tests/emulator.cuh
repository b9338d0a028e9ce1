// CUDA on the processor, for tests: stands in the place of machine.cuh when a `.cu` file is compiled as C++.
//
// Each thread of a block is a fiber with a stack of its own. A fiber runs until a barrier; a barrier opens when every
// fiber of the warp or of the block has come to it. Which fiber runs first can be turned around: what a kernel computes
// must not depend on it.
#pragma once

#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>
#include <cmath>
#include <algorithm>

#define __global__
#define __device__
#define __shared__ static thread_local
#define __launch_bounds__(threads)

using std::min;
using std::max;

typedef unsigned short half_bits;

struct Index {
    unsigned x, y, z;
};

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float half_to_float(half_bits bits) {
    _Float16 value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline half_bits float_to_half(float value) {
    _Float16 half = value;
    half_bits bits;
    std::memcpy(&bits, &half, sizeof bits);
    return bits;
}

// To the nearest, ties to even; all NaNs become one.
inline half_bits float_to_bfloat(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return value != value ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

inline float bfloat_to_float(half_bits bits) {
    return __uint_as_float(unsigned(bits) << 16);
}

inline unsigned add_pairs(unsigned left, unsigned right) {
    unsigned low = float_to_bfloat(bfloat_to_float(left) + bfloat_to_float(right));
    return low | unsigned(float_to_bfloat(bfloat_to_float(left >> 16) + bfloat_to_float(right >> 16))) << 16;
}

namespace emulator {

constexpr unsigned LANES = 32;
constexpr std::size_t STACK = 256 << 10;

enum State { READY, AT_WARP, AT_BLOCK, DONE };

struct Fiber {
    jmp_buf context;
    State state = READY;
    bool started = false;
    unsigned exchanges = 0;
    std::unique_ptr<char[]> stack{new char[STACK]};
};

struct Block {
    std::vector<Fiber> fibers{THREADS};
    // What lanes show each other, one set of slots after the other: a lane that is ahead does not overwrite.
    unsigned slots[2][THREADS];
    // What lanes hold of the factors of a product, likewise.
    unsigned factors[2][THREADS][6];
    jmp_buf scheduler;
    unsigned current;
    void (*kernel)(void*);
    void* arguments;
};

inline thread_local Block* block;

inline void pause(State at) {
    Fiber& own = block->fibers[block->current];
    own.state = at;
    if (_setjmp(own.context) == 0) _longjmp(block->scheduler, 1);
}

inline void start() {
    block->kernel(block->arguments);
    block->fibers[block->current].state = DONE;
    _longjmp(block->scheduler, 1);
}

inline void resume(unsigned thread) {
    Fiber& fiber = block->fibers[thread];
    block->current = thread;
    if (_setjmp(block->scheduler) != 0) return;
    if (fiber.started) _longjmp(fiber.context, 1);
    fiber.started = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.get();
    context.uc_stack.ss_size = STACK;
    makecontext(&context, start, 0);
    setcontext(&context);
}

// Whether some of `count` fibers wait at a barrier, which opens if all do; those at another one, or gone where that is
// not allowed, are a mistake of the kernel.
inline const char* open(unsigned first, unsigned count, State barrier, bool may_be_gone, bool& opened) {
    unsigned waiting = 0, gone = 0;
    for (unsigned thread = first; thread < first + count; ++thread) {
        waiting += block->fibers[thread].state == barrier;
        gone += block->fibers[thread].state == DONE;
    }
    opened = waiting > 0;
    if (!opened) return nullptr;
    if (waiting + (may_be_gone ? gone : 0) != count) return "threads wait at different barriers";
    for (unsigned thread = first; thread < first + count; ++thread) {
        if (block->fibers[thread].state == barrier) block->fibers[thread].state = READY;
    }
    return nullptr;
}

// Runs the threads of the block to their end. Null, or what the kernel does wrong.
inline const char* run_block(bool reversed) {
    for (bool live = true; live;) {
        for (unsigned first = 0; first < THREADS; first += LANES) {
            for (bool opened = true; opened;) {
                for (unsigned index = 0; index < LANES; ++index) {
                    unsigned thread = first + (reversed ? LANES - 1 - index : index);
                    if (block->fibers[thread].state == READY) resume(thread);
                }
                if (const char* problem = open(first, LANES, AT_WARP, false, opened)) return problem;
            }
        }
        if (const char* problem = open(0, THREADS, AT_BLOCK, true, live)) return problem;
    }
    return nullptr;
}

template <class... A, std::size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}

}  // namespace emulator

inline thread_local Index blockIdx, gridDim;

struct ThreadIndex {
    struct X {
        operator unsigned() const { return emulator::block->current; }
    } x;
};
inline ThreadIndex threadIdx;

inline void __syncthreads() {
    emulator::pause(emulator::AT_BLOCK);
}

inline void __syncwarp() {
    emulator::pause(emulator::AT_WARP);
}

// What lane `from` of the warp has as `value`.
inline float __shfl_sync(unsigned, float value, int from) {
    unsigned thread = emulator::block->current;
    unsigned* slots = emulator::block->slots[emulator::block->fibers[thread].exchanges++ % 2];
    std::memcpy(&slots[thread], &value, sizeof value);
    __syncwarp();
    float other;
    std::memcpy(&other, &slots[thread / emulator::LANES * emulator::LANES + from], sizeof other);
    return other;
}

inline float __shfl_xor_sync(unsigned all, float value, int distance) {
    return __shfl_sync(all, value, emulator::block->current % emulator::LANES ^ distance);
}

inline void add_product(float (&sums)[4], const unsigned (&left)[4], const unsigned (&right)[2]) {
    unsigned thread = emulator::block->current, lane = thread % emulator::LANES;
    auto* held = emulator::block->factors[emulator::block->fibers[thread].exchanges++ % 2] + (thread - lane);
    std::copy(left, left + 4, held[lane]);
    std::copy(right, right + 2, held[lane] + 4);
    __syncwarp();
    auto half = [](unsigned pair, unsigned at) { return bfloat_to_float(pair >> 16 * (at % 2)); };
    for (unsigned at = 0; at < 4; ++at) {
        unsigned row = lane / 4 + 8 * (at / 2), column = 2 * (lane % 4) + at % 2;
        for (unsigned along = 0; along < 16; ++along) {
            const unsigned place = along % 8 / 2;
            float own = half(held[row % 8 * 4 + place][2 * (along / 8) + row / 8], along);
            sums[at] += own * half(held[column * 4 + place][4 + along / 8], along);
        }
    }
}

inline unsigned __ballot_sync(unsigned, bool own) {
    unsigned thread = emulator::block->current;
    unsigned* slots = emulator::block->slots[emulator::block->fibers[thread].exchanges++ % 2];
    slots[thread] = own;
    __syncwarp();
    unsigned ballot = 0;
    for (unsigned lane = 0; lane < emulator::LANES; ++lane) {
        ballot |= slots[thread / emulator::LANES * emulator::LANES + lane] << lane;
    }
    return ballot;
}

inline unsigned __popc(unsigned bits) {
    return __builtin_popcount(bits);
}

inline unsigned atomicAdd(unsigned* to, unsigned value) {
    unsigned before = *to;
    *to += value;
    return before;
}

// What a test calls: runs KERNEL over a grid.
#define EMULATE(KERNEL)                                                                                              \
    extern "C" const char* emulate(const unsigned* grid, void** arguments, bool reversed) {                          \
        gridDim = {grid[0], grid[1], grid[2]};                                                                       \
        for (unsigned z = 0; z < grid[2]; ++z)                                                                       \
            for (unsigned y = 0; y < grid[1]; ++y)                                                                   \
                for (unsigned x = 0; x < grid[0]; ++x) {                                                             \
                    blockIdx = {x, y, z};                                                                            \
                    auto block = std::make_unique<emulator::Block>();                                                \
                    emulator::block = block.get();                                                                   \
                    block->arguments = arguments;                                                                    \
                    block->kernel = [](void* arguments) { emulator_call(KERNEL, static_cast<void**>(arguments)); };  \
                    if (const char* problem = emulator::run_block(reversed)) return problem;                         \
                }                                                                                                    \
        return nullptr;                                                                                              \
    }

template <class... A>
void emulator_call(void (*kernel)(A...), void** arguments) {
    emulator::call(kernel, arguments, std::index_sequence_for<A...>{});
}
