// Few queries over many quantized keys, the keys split over the blocks as in stream.cu.
//
// Constants: ELEMENT, the dtype of the queries; HEAD_DIM; KEY_DIM, the channels of a key; ROWS, 8; BITS of a code; GROUP, the
// tokens or channels that share a step and a zero; PER_TOKEN, whether keys share them as values do; HADAMARD, whether a
// Hadamard matrix has rotated keys and values.
//
// Both halves are products of panels of codes (quantized/panels.rs) with factors of 8 rows, on tensor cores: of keys, with
// the queries, into which a group's steps are folded; of values, with the weights, likewise. Codes are exact in bf16. Factors
// are split into bf16s that add up to them (two where queries have half precision, else three), so that sums are those of
// float32. What zeros add is a number for each row. Each warp takes tiles of whole panels of tokens of its own: a lane loads
// the words of 32 bits that its part of a matrix is made of, straight from memory, each once.
#include "attention/span.cuh"

constexpr int QUAD = 4;                // lanes to a row of factors
constexpr int PANEL = 16;              // codes side by side
constexpr int FIELDS = 32 / BITS;      // codes of a word
constexpr int PAIRS = FIELDS / 2;      // of codes that are unpacked together
constexpr int PRODUCTS = FIELDS / 4;   // that a lane's word takes part in
constexpr int SPLITS = sizeof(ELEMENT) == 4 ? 3 : 2;

__device__ constexpr int padded(int channels) {
    return (channels + PANEL - 1) / PANEL * PANEL;
}

// Tokens of a tile: the largest part of a group that a lane's registers hold.
__device__ constexpr int tile_of(int group) {
    int tile = group < 64 ? group : 64;
    while (group % tile != 0) tile -= PANEL;
    return tile;
}

constexpr int TILE = tile_of(GROUP);
constexpr int PANELS = TILE / PANEL;
constexpr int TILE_WORDS = TILE / FIELDS, TILE_STEPS = (TILE_WORDS + QUAD - 1) / QUAD, GROUP_WORDS = GROUP / FIELDS;
constexpr int KEY_WIDTH = padded(KEY_DIM), VALUE_WIDTH = padded(HEAD_DIM);
constexpr int KEY_WORDS = KEY_WIDTH / FIELDS, VALUE_PANELS = VALUE_WIDTH / PANEL;
// Channels of a token that share a step and a zero; per channel, all are taken at once.
constexpr int KEY_PART = PER_TOKEN && GROUP < KEY_WIDTH ? GROUP : KEY_WIDTH;
constexpr int KEY_PARTS = (KEY_WIDTH + KEY_PART - 1) / KEY_PART;
constexpr int VALUE_PARTS = (VALUE_WIDTH + GROUP - 1) / GROUP;
constexpr int KEY_SCALES = PER_TOKEN ? KEY_PARTS * 2 * GROUP : 2 * KEY_WIDTH;
constexpr int VALUE_SCALES = VALUE_PARTS * 2 * GROUP;

// Codes `index` and `index` + PAIRS of a word as bf16s.
__device__ inline u32 unpacked(u32 word, int index) {
    const u32 codes = word >> (BITS * index);
    if constexpr (BITS < 8) {
        // 128 has its last bit where 1 is.
        constexpr u32 MASK = ((1 << BITS) - 1) * 0x10001;
        return add_pairs((codes & MASK) | 0x43004300, 0xc300c300);
    } else {
        // As 2^23 has in float32, whose upper half a whole number below 256 is.
        const float low = __uint_as_float((codes & 0xff) | 0x4b000000) - 8388608.0f;
        const float high = __uint_as_float((codes >> 16 & 0xff) | 0x4b000000) - 8388608.0f;
        return (__float_as_uint(low) >> 16) | __float_as_uint(high);
    }
}

// Factors of 8 rows with the codes of at most WORDS words, as a product takes them: a lane has row lane / 4, and of
// every fourth word, from lane % 4 on, the factors of all its codes.
template <int WORDS>
struct Factors {
    static constexpr int STEPS = (WORDS + QUAD - 1) / QUAD;
    u32 halves[STEPS][PRODUCTS][SPLITS][2];

    // The lane's factors of the word of a step.
    __device__ void set(int step, float (&factors)[FIELDS]) {
#pragma unroll
        for (int split = 0; split < SPLITS; ++split) {
#pragma unroll
            for (int pair = 0; pair < PAIRS; ++pair) {
                const u32 low = __float_as_uint(factors[pair]) & 0xffff0000;
                const u32 high = __float_as_uint(factors[pair + PAIRS]) & 0xffff0000;
                halves[step][pair / 2][split][pair % 2] = low >> 16 | high;
                factors[pair] -= __uint_as_float(low);
                factors[pair + PAIRS] -= __uint_as_float(high);
            }
        }
    }

    // Adds products with `words` words of a panel, PANEL side by side: codes lane / 4 and lane / 4 + 8 with rows
    // 2 * (lane % 4) and the next.
    __device__ void multiply(const u32* panel, int words, u32 lane, float (&sums)[4]) const {
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            const int word = step * QUAD + lane % QUAD;
            const u32* own = panel + word * PANEL + lane / QUAD;
            const u32 low = word < words ? own[0] : 0, high = word < words ? own[8] : 0;
#pragma unroll
            for (int product = 0; product < PRODUCTS; ++product) {
                const u32 codes[4] = {unpacked(low, 2 * product), unpacked(high, 2 * product),
                                      unpacked(low, 2 * product + 1), unpacked(high, 2 * product + 1)};
#pragma unroll
                for (int split = 0; split < SPLITS; ++split) add_product(sums, codes, halves[step][product][split]);
            }
        }
    }
};

// COUNT numbers, whole words of codes, as float32; `from` is aligned like them.
template <int COUNT, class E>
__device__ inline void load_numbers(const E* from, float* to) {
    constexpr int WIDE = 16 / sizeof(E), STEP = COUNT < WIDE ? COUNT : WIDE;
#pragma unroll
    for (int at = 0; at < COUNT; at += STEP) load<STEP>(from + at, to + at);
}

// Multiplies the rows' first WIDTH numbers by a Hadamard matrix (quantized/rotation.rs), all threads of a block together.
template <int WIDTH, int STRIDE>
__device__ inline void rotate(float (&rows)[ROWS][STRIDE]) {
    constexpr int BLOCK = WIDTH & -WIDTH;
    if constexpr (BLOCK > 1) {
        for (int half = 1; half < BLOCK; half *= 2) {
            const float factor = 2 * half == BLOCK ? 1 / sqrtf(BLOCK) : 1;
            for (int at = threadIdx.x; at < int(ROWS) * WIDTH / 2; at += THREADS) {
                const int row = at / (WIDTH / 2), pair = at % (WIDTH / 2), low = pair / half * 2 * half + pair % half;
                const float left = rows[row][low], right = rows[row][low + half];
                rows[row][low] = (left + right) * factor;
                rows[row][low + half] = (left - right) * factor;
            }
            __syncthreads();
        }
    }
}

// Of numbers that quads of lanes have for their rows, those of rows 2 * place and the next.
__device__ inline void two_of(float own, u32 place, float (&two)[2]) {
    two[0] = __shfl_sync(ALL, own, 2 * place * QUAD);
    two[1] = __shfl_sync(ALL, own, (2 * place + 1) * QUAD);
}

union alignas(16) Shared {
    // Until the warps hand over what they have found; rows start at different banks.
    struct {
        float queries[ROWS][KEY_WIDTH + QUAD];
        float logits[WARPS][ROWS][TILE + QUAD];
    };
    Found found;
};

extern "C" __global__ void __launch_bounds__(THREADS)
attend(const Span* spans, const ELEMENT* query, float* partials, u32 heads, u32 group, float scale) {
    __shared__ Shared shared;

    const Span span = spans[blockIdx.z];
    const u32 rows = span.tokens * group, first_row = blockIdx.x * ROWS, first_key = blockIdx.y * span.chunk;
    if (first_row >= rows || first_key >= span.length) return;
    const u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, row = lane / QUAD, place = lane % QUAD;
    const u32 count = min(span.chunk, span.length - first_key);

    for (int at = threadIdx.x; at < int(ROWS) * KEY_WIDTH; at += THREADS) {
        const int column = at % KEY_WIDTH;
        const u32 which = at / KEY_WIDTH, own = first_row + which;
        const bool there = own < rows && column < KEY_DIM;
        const i64 channel = there && span.channels ? span.channels[column] : column;
        const u64 first = (u64(span.token + own / group) * heads + span.head + own % group) * HEAD_DIM;
        shared.queries[which][column] = there ? scale * widen(query[first + channel]) : 0.0f;
    }
    __syncthreads();
    if constexpr (HADAMARD) rotate<KEY_DIM>(shared.queries);

    Factors<KEY_PART / FIELDS> queries[KEY_PARTS];
    // Of the lane's row: what the zeros of channels add to a logit.
    float offset = 0;
    // Per token: sums of the queries of each part of channels, of rows 2 * place and the next.
    float totals[KEY_PARTS][2];
    if constexpr (PER_TOKEN) {
#pragma unroll
        for (int part = 0; part < KEY_PARTS; ++part) {
            float total = 0;
#pragma unroll
            for (int step = 0; step < queries[part].STEPS; ++step) {
                const int column = part * KEY_PART + (step * QUAD + place) * FIELDS;
                float own[FIELDS] = {};
                if (column < min(KEY_WIDTH, (part + 1) * KEY_PART)) load_numbers<FIELDS>(shared.queries[row] + column, own);
#pragma unroll
                for (int field = 0; field < FIELDS; ++field) total += own[field];
                queries[part].set(step, own);
            }
            two_of(sum_of<QUAD>(total), place, totals[part]);
        }
    }

    // Of the lane's row: the largest logit, and the lane's terms of the denominator and of what the values' zeros add.
    float top = -INFINITY, total = 0, zeros[VALUE_PARTS] = {};
    // Channels row and row + 8 of each panel, of query rows 2 * place and the next.
    float output[VALUE_PANELS][4] = {};
    for (u32 first = warp * TILE; first < count; first += WARPS * TILE) {
        const u32 index = (first_key + first) / GROUP, inside = (first_key + first) % GROUP;
        const u32* key_codes = static_cast<const u32*>(span.keys) + (u64(index) * GROUP + inside) * KEY_WORDS;
        const f16* key_scales = span.key_scales + u64(index) * KEY_SCALES;
        if constexpr (!PER_TOKEN) {
            offset = 0;
#pragma unroll
            for (int step = 0; step < queries[0].STEPS; ++step) {
                const int column = (step * QUAD + place) * FIELDS;
                float own[FIELDS] = {}, steps[FIELDS], lowest[FIELDS];
                if (column < KEY_WIDTH) {
                    load_numbers<FIELDS>(shared.queries[row] + column, own);
                    load_numbers<FIELDS>(key_scales + column, steps);
                    load_numbers<FIELDS>(key_scales + KEY_WIDTH + column, lowest);
#pragma unroll
                    for (int field = 0; field < FIELDS; ++field) {
                        offset = fmaf(own[field], lowest[field], offset);
                        own[field] *= steps[field];
                    }
                }
                queries[0].set(step, own);
            }
            offset = sum_of<QUAD>(offset);
        }
#pragma unroll
        for (int panel = 0; panel < PANELS; ++panel) {
            float logits[4] = {};
#pragma unroll
            for (int part = 0; part < KEY_PARTS; ++part) {
                const u32* codes = key_codes + (panel * KEY_WORDS + part * KEY_PART / FIELDS) * PANEL;
                const int words = min(KEY_PART, KEY_WIDTH - part * KEY_PART) / FIELDS;
                float sums[4] = {};
                queries[part].multiply(codes, words, lane, sums);
#pragma unroll
                for (int at = 0; at < 4; ++at) {
                    if constexpr (PER_TOKEN) {
                        const f16* own = key_scales + part * 2 * GROUP + inside + panel * PANEL + row + at / 2 * 8;
                        logits[at] = fmaf(widen(own[0]), sums[at], logits[at]);
                        logits[at] = fmaf(widen(own[GROUP]), totals[part][at % 2], logits[at]);
                    } else {
                        logits[at] = sums[at];
                    }
                }
            }
#pragma unroll
            for (int at = 0; at < 4; ++at) {
                shared.logits[warp][2 * place + at % 2][panel * PANEL + row + at / 2 * 8] = logits[at];
            }
        }
        __syncwarp();

        float weights[TILE_STEPS][FIELDS], largest = top;
#pragma unroll
        for (int step = 0; step < TILE_STEPS; ++step) {
            const int word = step * QUAD + place;
#pragma unroll
            for (int field = 0; field < FIELDS; ++field) {
                weights[step][field] =
                    word < TILE_WORDS ? shared.logits[warp][row][word * FIELDS + field] + offset : -INFINITY;
                largest = fmaxf(largest, weights[step][field]);
            }
        }
        largest = largest_of<QUAD>(largest);
        const float factor = weight_of(top, largest);
        float factors[2];
        two_of(factor, place, factors);
        top = largest;
        total *= factor;
#pragma unroll
        for (int step = 0; step < TILE_STEPS; ++step) {
#pragma unroll
            for (int field = 0; field < FIELDS; ++field) {
                weights[step][field] = weight_of(weights[step][field], largest);
                total += weights[step][field];
            }
        }
#pragma unroll
        for (int panel = 0; panel < VALUE_PANELS; ++panel) {
#pragma unroll
            for (int at = 0; at < 4; ++at) output[panel][at] *= factors[at % 2];
        }
        const u32* value_codes = static_cast<const u32*>(span.values) + u64(index) * VALUE_PANELS * GROUP_WORDS * PANEL +
                                 inside / FIELDS * PANEL;
        const f16* value_scales = span.value_scales + u64(index) * VALUE_SCALES + inside;
#pragma unroll
        for (int part = 0; part < VALUE_PARTS; ++part) {
            Factors<TILE_WORDS> weighted;
            zeros[part] *= factor;
#pragma unroll
            for (int step = 0; step < TILE_STEPS; ++step) {
                const int token = (step * QUAD + place) * FIELDS;
                float own[FIELDS] = {}, steps[FIELDS], lowest[FIELDS];
                if (token < TILE) {
                    load_numbers<FIELDS>(value_scales + part * 2 * GROUP + token, steps);
                    load_numbers<FIELDS>(value_scales + part * 2 * GROUP + GROUP + token, lowest);
#pragma unroll
                    for (int field = 0; field < FIELDS; ++field) {
                        zeros[part] = fmaf(weights[step][field], lowest[field], zeros[part]);
                        own[field] = weights[step][field] * steps[field];
                    }
                }
                weighted.set(step, own);
            }
#pragma unroll
            for (int panel = part * GROUP / PANEL; panel < min(VALUE_PANELS, (part + 1) * GROUP / PANEL); ++panel) {
                weighted.multiply(value_codes + panel * GROUP_WORDS * PANEL, TILE_WORDS, lane, output[panel]);
            }
        }
        __syncwarp();
    }

    total = sum_of<QUAD>(total);
    // The other warps have read the queries, and their logits.
    __syncthreads();
    if (place == 0) {
        shared.found.tops[warp][row] = top;
        shared.found.totals[warp][row] = total;
    }
#pragma unroll
    for (int part = 0; part < VALUE_PARTS; ++part) {
        float added[2];
        two_of(sum_of<QUAD>(zeros[part]), place, added);
#pragma unroll
        for (int panel = part * GROUP / PANEL; panel < min(VALUE_PANELS, (part + 1) * GROUP / PANEL); ++panel) {
#pragma unroll
            for (int at = 0; at < 4; ++at) {
                const int channel = panel * PANEL + row + at / 2 * 8;
                if (channel < HEAD_DIM) {
                    shared.found.sums[warp][2 * place + at % 2][channel] = output[panel][at] + added[at % 2];
                }
            }
        }
    }
    __syncthreads();
    if constexpr (HADAMARD) {
        for (u32 other = 0; other < WARPS; ++other) rotate<HEAD_DIM>(shared.found.sums[other]);
    }
    shared.found.write(span, partials, blockIdx.y, first_row, rows);
}
