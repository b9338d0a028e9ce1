// Two of Pressroom's presses as a plugin in C, `c_knorm` and `c_snapkv`: the interface without the SDK.
//
//     cc -std=c11 -O2 -shared -fPIC -I plugins/abi/include plugins/examples/c/twins.c -o libtwins.so -lm

#include "pressroom_plugin.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

static uint32_t failed(const PressroomCall *call, const char *reason) {
    call->fail(call, (PressroomText){(const uint8_t *)reason, strlen(reason)});
    return PRESSROOM_FAILED;
}

// ---- Reading tensors -------------------------------------------------------------------------------------------

// The element at [a, b, c, d] as float.
static float number(const PressroomTensor *tensor, int64_t a, int64_t b, int64_t c, int64_t d) {
    const PressroomArray *array = &tensor->array;
    const int64_t *s = array->strides;
    const int64_t at = a * s[0] + b * s[1] + c * s[2] + d * s[3];
    const uint8_t *data = (const uint8_t *)array->data + array->byte_offset;
    if (array->dtype.bits == 32) {
        return ((const float *)(const void *)data)[at];
    }
    uint32_t bits = ((const uint16_t *)(const void *)data)[at];
    if (array->dtype.code == PRESSROOM_BFLOAT) {
        bits <<= 16;
    } else {
        const uint32_t sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
        if (exponent == 0) {
            const float small = ldexpf((float)fraction, -24);
            return sign ? -small : small;
        }
        bits = sign | (exponent == 31 ? 255u << 23 : (exponent + 112) << 23) | fraction << 13;
    }
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static int64_t position(const PressroomView *view, int64_t sequence, int64_t kv_head, int64_t token) {
    const PressroomArray *array = &view->positions->array;
    const int64_t *s = array->strides;
    const int64_t *data = (const int64_t *)(const void *)((const uint8_t *)array->data + array->byte_offset);
    return data[sequence * s[0] + kv_head * s[1] + token * s[2]];
}

// ---- Parameters ------------------------------------------------------------------------------------------------

typedef struct {
    int64_t window_size;
    int64_t kernel_size;
} Parameters;

// The whole number that `"name":` stands before; the host has checked the object against the schema.
static int64_t whole(const char *json, const char *name, int64_t otherwise) {
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *found = strstr(json, key);
    return found ? strtoll(found + strlen(key), NULL, 10) : otherwise;
}

static uint32_t create(const PressroomCall *call, PressroomText params, void **instance) {
    char *json = calloc(params.len + 1, 1);
    Parameters *made = malloc(sizeof *made);
    if (json == NULL || made == NULL) {
        free(json);
        free(made);
        return failed(call, "out of memory");
    }
    memcpy(json, params.data, params.len);
    made->window_size = whole(json, "window_size", 64);
    made->kernel_size = whole(json, "kernel_size", 5);
    free(json);
    *instance = made;
    return PRESSROOM_OK;
}

static void destroy(void *instance) { free(instance); }

// ---- knorm -----------------------------------------------------------------------------------------------------

static uint32_t needs_nothing(const PressroomCall *call, void *instance, PressroomNeeds *needs) {
    (void)call, (void)instance, (void)needs;
    return PRESSROOM_OK;
}

// The norm of a key to the last bit as libtorch sums it: every eighth channel by itself, then the eight sums. Where a
// token is repeated, its keys at the first layer differ by their rotation alone, and rounding decides which are kept.
static float norm(const PressroomView *view, int64_t sequence, int64_t head, int64_t token) {
    float sums[8] = {0}, sum = 0;
    for (int64_t channel = 0; channel < view->head_dim; channel++) {
        const float x = number(view->keys, sequence, head, token, channel);
        sums[channel % 8] += x * x;
    }
    for (int64_t part = 0; part < 8; part++) {
        sum += sums[part];
    }
    return sqrtf(sum);
}

static uint32_t score_knorm(const PressroomCall *call, void *instance, const PressroomView *view,
                            const PressroomTensor *scores) {
    (void)call, (void)instance;
    float *out = scores->array.data;
    for (int64_t sequence = 0; sequence < view->batch; sequence++) {
        for (int64_t head = 0; head < view->kv_heads; head++) {
            for (int64_t token = 0; token < view->tokens; token++) {
                *out++ = -norm(view, sequence, head, token);
            }
        }
    }
    return PRESSROOM_OK;
}

// ---- snapkv ----------------------------------------------------------------------------------------------------

static uint32_t needs_window(const PressroomCall *call, void *instance, PressroomNeeds *needs) {
    (void)call;
    needs->rotated_queries = (uint64_t)((const Parameters *)instance)->window_size;
    return PRESSROOM_OK;
}

// Adds the attention of one query over the entries of one KV head to `votes`.
static void vote(const PressroomView *view, int64_t sequence, int64_t head, int64_t row, int64_t query_position,
                 float *weights, float *votes) {
    const int64_t kv_head = head / (view->heads / view->kv_heads);
    float largest = -INFINITY, sum = 0;
    for (int64_t token = 0; token < view->tokens; token++) {
        float dot = 0;
        for (int64_t channel = 0; channel < view->head_dim; channel++) {
            dot += number(view->rotated_queries, sequence, head, row, channel) *
                   number(view->keys, sequence, kv_head, token, channel);
        }
        const bool future = position(view, sequence, kv_head, token) > query_position;
        weights[token] = future ? -INFINITY : dot / sqrtf((float)view->head_dim);
        largest = fmaxf(largest, weights[token]);
    }
    for (int64_t token = 0; token < view->tokens; token++) {
        weights[token] = expf(weights[token] - largest);
        sum += weights[token];
    }
    for (int64_t token = 0; token < view->tokens; token++) {
        votes[token] += weights[token] / sum;
    }
}

// Adds the mean of each entry's neighbours to `scores`; beyond the ends there are zeros.
static void pool(const float *votes, int64_t tokens, int64_t kernel, float *scores) {
    for (int64_t token = 0; token < tokens; token++) {
        float sum = 0;
        for (int64_t near = token - kernel / 2; near < token - kernel / 2 + kernel; near++) {
            sum += near >= 0 && near < tokens ? votes[near] : 0;
        }
        scores[token] += sum / (float)kernel;
    }
}

static uint32_t score_snapkv(const PressroomCall *call, void *instance, const PressroomView *view,
                             const PressroomTensor *scores) {
    const Parameters *params = instance;
    const int64_t window = params->window_size, first = view->context_end - window;
    const int64_t group = view->heads / view->kv_heads, tokens = view->tokens;
    // While decoding, only the queries of the last tokens are there.
    const int64_t queries = view->rotated_queries->array.shape[2];
    if (first <= view->context_start) {
        return failed(call, "the context is not longer than window_size; use a longer one or a smaller window");
    }
    float *weights = malloc(2 * (size_t)tokens * sizeof *weights);
    if (weights == NULL) {
        return failed(call, "out of memory");
    }
    float *votes = weights + tokens, *out = scores->array.data;
    for (int64_t sequence = 0; sequence < view->batch; sequence++) {
        for (int64_t kv_head = 0; kv_head < view->kv_heads; kv_head++, out += tokens) {
            memset(out, 0, (size_t)tokens * sizeof *out);
            for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
                memset(votes, 0, (size_t)tokens * sizeof *votes);
                for (int64_t row = 0; row < queries; row++) {
                    vote(view, sequence, head, row, view->context_end - queries + row, weights, votes);
                }
                for (int64_t token = 0; token < tokens; token++) {
                    const bool inside = position(view, sequence, kv_head, token) >= first;
                    votes[token] = inside ? 0 : votes[token] / (float)queries;
                }
                pool(votes, tokens, params->kernel_size, out);
            }
            for (int64_t token = 0; token < tokens; token++) {
                const bool inside = position(view, sequence, kv_head, token) >= first;
                out[token] = inside ? INFINITY : out[token] / (float)group;
            }
        }
    }
    free(weights);
    return PRESSROOM_OK;
}

// ---- What is exported ------------------------------------------------------------------------------------------

static const PressroomPress presses[] = {
    {
        .size = sizeof(PressroomPress),
        .kind = PRESSROOM_SCORER,
        .name = TEXT("c_knorm"),
        .doc = TEXT("Keeps the keys with the smallest L2 norm.\n\n# Idea\nKeys of small norm tend to receive high "
                    "attention.\n\n# Formula\n`score = -||k||`\n\n# Paper\nDevoto et al., 2024, "
                    "<https://arxiv.org/abs/2406.11430>"),
        .params = TEXT("{\"type\":\"object\",\"properties\":{}}"),
        .create = create,
        .destroy = destroy,
        .needs = needs_nothing,
        .score = score_knorm,
    },
    {
        .size = sizeof(PressroomPress),
        .kind = PRESSROOM_SCORER,
        .name = TEXT("c_snapkv"),
        .doc = TEXT("Keeps what the last tokens attend to, and those tokens.\n\n# Idea\nThe attention of an observation "
                    "window predicts what an answer will need.\n\n# Formula\n`score = mean over the query group of "
                    "avg_pool(mean over window queries q of softmax(q K / sqrt(d)))`\n\n# Paper\nLi et al., 2024, "
                    "<https://arxiv.org/abs/2404.14469>"),
        .params = TEXT("{\"type\":\"object\",\"properties\":{"
                       "\"window_size\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000000000,\"default\":64,"
                       "\"unit\":\"tokens\",\"description\":\"Tokens at the end of the context whose queries vote.\"},"
                       "\"kernel_size\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000000,\"default\":5,"
                       "\"unit\":\"tokens\",\"description\":\"Width of the average pooling over tokens; odd.\"}}}"),
        .create = create,
        .destroy = destroy,
        .needs = needs_window,
        .score = score_snapkv,
    },
};

static uint32_t open_library(const PressroomHost *host, const PressroomCall *call) {
    (void)host, (void)call;
    return PRESSROOM_OK;
}

static const PressroomPress *press(uint32_t index) { return &presses[index]; }

PRESSROOM_EXPORT const PressroomEntry pressroom_plugin_v1 = {
    .magic = PRESSROOM_MAGIC,
    .size = sizeof(PressroomEntry),
    .abi_version = PRESSROOM_ABI_VERSION,
    .min_abi_version = 1,
    .press_count = sizeof presses / sizeof presses[0],
    .build = "twins, C",
    .open = open_library,
    .press = press,
};
