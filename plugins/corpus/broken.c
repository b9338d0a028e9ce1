// A press that is sound unless one of FAULT_* is defined; faults.txt lists those that `plugin check` names, CUTS_MEMORY
// and BABBLES attack a host through the files that it shares. With IDLE it does nothing,
// and WITHOUT_VALUES it reads none, for the bench. Built by the tests:
//
//     cc -std=gnu11 -shared -fPIC -DFAULT_NAN -I plugins/abi/include plugins/corpus/broken.c -o libbroken.so -lm

#define _GNU_SOURCE
#include "pressroom_plugin.h"

#include <fcntl.h>
#include <fenv.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

#if defined(FAULT_TOO_MANY) || defined(FAULT_OUT_OF_RANGE) || defined(FAULT_DUPLICATES) ||                             \
    defined(FAULT_DESCENDING) || defined(FAULT_NOTHING) || defined(FAULT_OVER_BUDGET) || defined(FAULT_UNEVEN_HEADS)
#define SELECTOR
#endif

static uint32_t failed(const PressroomCall *call, const char *reason) {
    call->fail(call, (PressroomText){(const uint8_t *)reason, strlen(reason)});
    return PRESSROOM_FAILED;
}

static float number(const PressroomTensor *tensor, int64_t a, int64_t b, int64_t c, int64_t d) {
    const PressroomArray *array = &tensor->array;
    const int64_t *s = array->strides;
    int64_t at = a * s[0] + b * s[1] + c * s[2] + d * s[3];
#ifdef FAULT_IGNORES_STRIDES
    at = ((a * array->shape[1] + b) * array->shape[2] + c) * array->shape[3] + d;
#endif
#ifdef FAULT_IGNORES_TYPES
    // Stays within the tensor, so that this is a wrong number and no wrong address.
    return ((const float *)array->data)[array->dtype.bits == 32 ? at : at / 2];
#endif
    if (array->dtype.bits == 32) {
        return ((const float *)array->data)[at];
    }
    uint32_t bits = ((const uint16_t *)array->data)[at];
    if (array->dtype.code == PRESSROOM_BFLOAT) {
        bits <<= 16;
    } else {
        const uint32_t sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
        if (exponent == 0) {
            return (sign ? -1.0f : 1.0f) * ldexpf((float)fraction, -24);
        }
        bits = sign | (exponent == 31 ? 255u << 23 : (exponent + 112) << 23) | fraction << 13;
    }
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// ---- Life --------------------------------------------------------------------------------------------------------

static int instances;

static uint32_t create(const PressroomCall *call, PressroomText params, void **instance) {
    (void)call, (void)params;
#ifdef FAULT_CREATE_WITHOUT_REASON
    return PRESSROOM_FAILED;
#endif
#ifdef FAULT_ABORT_IN_CREATE
    abort();
#endif
#ifdef FAULT_NONSENSE_KILLS
    if (params.len == 0 || params.data[params.len - 1] != '}') {
        abort();
    }
#endif
#ifdef FAULT_BOUNDS_KILL
    if (memmem(params.data, params.len, "1000", 4) != NULL) {
        abort();
    }
#endif
    int *made = malloc(sizeof *made);
    if (made == NULL) {
        return failed(call, "out of memory");
    }
    *made = ++instances;
    *instance = made;
    return PRESSROOM_OK;
}

static void destroy(void *instance) {
    free(instance);
#ifdef FAULT_DOUBLE_FREE
    free(instance);
#endif
}

static uint32_t needs(const PressroomCall *call, void *instance, PressroomNeeds *needs) {
    (void)call, (void)instance, (void)needs;
#ifdef WITHOUT_VALUES
    needs->without_values = 1;
#endif
#ifdef FAULT_NEEDS_CHANGE
    static uint64_t asked;
    needs->queries = ++asked;
#endif
#ifdef FAULT_UNKNOWN_DEVICE
    needs->devices = 64;
#endif
#ifdef FAULT_HEAD_WISE_SCORER
    needs->head_wise = 1;
#endif
    return PRESSROOM_OK;
}

static uint32_t prepare(const PressroomCall *call, void *instance, const PressroomModel *model) {
    (void)call, (void)instance, (void)model;
#ifdef FAULT_ABORT_IN_PREPARE
    abort();
#endif
#ifdef FAULT_PREPARE_WITHOUT_REASON
    return PRESSROOM_FAILED;
#endif
    return PRESSROOM_OK;
}

static const void *extension(PressroomText id) {
    static const PressroomPrepare prepares = {
#ifdef FAULT_SHORT_EXTENSION
        .size = 8,
#else
        .size = sizeof(PressroomPrepare),
#endif
#ifndef FAULT_EMPTY_EXTENSION
        .prepare = prepare,
#endif
    };
    const size_t len = sizeof PRESSROOM_PREPARE - 1;
    return id.len == len && memcmp(id.data, PRESSROOM_PREPARE, len) == 0 ? &prepares : NULL;
}

// ---- Faults of a call ----------------------------------------------------------------------------------------------

#ifdef FAULT_STACK_OVERFLOW
static int deeper(volatile char *above) {
    volatile char here[4096];
    here[0] = above[0];
    return deeper(here) + here[0];
}
#endif

#ifdef FAULT_THREAD_LEFT
static void *idle(void *unused) {
    for (;;) {
        pause();
    }
    return unused;
}
#endif

#ifdef FAULT_SIGNALS
static void ignore(int number) { (void)number; }
#endif

static void misbehave(const PressroomView *view) {
    (void)view;
#ifdef FAULT_ABORT
    abort();
#endif
#ifdef FAULT_SEGFAULT
    *(volatile int *)8 = 1;
#endif
#ifdef FAULT_STACK_OVERFLOW
    char start = 0;
    printf("%d", deeper(&start));
#endif
#ifdef FAULT_ENDLESS_LOOP
    for (volatile int turning = 1; turning;) {
    }
#endif
#ifdef FAULT_EXIT
    exit(0);
#endif
#ifdef FAULT_NOISE
    puts("hello");
#endif
#ifdef FAULT_FORK
    if (fork() == 0) {
        sleep(1);
    }
#endif
#ifdef FAULT_THREAD_LEFT
    pthread_t thread;
    pthread_create(&thread, NULL, idle, NULL);
#endif
#ifdef FAULT_LOCALE
    setlocale(LC_ALL, "C.UTF-8");
#endif
#ifdef FAULT_ROUNDING
    fesetround(FE_UPWARD);
#endif
#ifdef FAULT_ENVIRONMENT
    setenv("OMP_NUM_THREADS", "64", 1);
#endif
#ifdef FAULT_DIRECTORY
    if (chdir("/") != 0) {
        abort();
    }
#endif
#ifdef FAULT_SIGNALS
    signal(SIGINT, ignore);
#endif
#ifdef FAULT_DESCRIPTORS
    if (open("/dev/null", O_RDONLY) < 0) {
        abort();
    }
#endif
#ifdef FAULT_CUTS_MEMORY
    for (int descriptor = 3; descriptor < 64; descriptor++) {
        (void)!ftruncate(descriptor, 0);
    }
#endif
#ifdef FAULT_BABBLES
    for (int descriptor = 3; descriptor < 64; descriptor++) {
        (void)!write(descriptor, "nonsense", 8);
    }
#endif
#ifdef FAULT_LEAK
    static void *volatile lost;
    lost = malloc(100);
#endif
#ifdef FAULT_GROWS
    static int64_t *history;
    static size_t calls, room;
    if (calls == room) {
        room = room == 0 ? 16 : 2 * room;
        history = realloc(history, room * sizeof *history);
    }
    history[calls++] = view->tokens;
#endif
#ifdef FAULT_SHORT_KILLS
    if (view->tokens < 4) {
        abort();
    }
#endif
#ifdef FAULT_WRITES_INPUTS
    *(volatile float *)view->keys->array.data = 1;
#endif
#ifdef FAULT_READS_PAST_END
    (void)((volatile const char *)view->keys->array.data)[view->keys->byte_len];
#endif
#ifdef FAULT_READS_BEFORE_START
    (void)((volatile const char *)view->keys->array.data)[-1];
#endif
}

#ifdef SELECTOR

static uint32_t select_entries(const PressroomCall *call, void *instance, const PressroomView *view,
                               const PressroomBudget *budget, const PressroomSelection *selection) {
    (void)call, (void)instance;
    misbehave(view);
    int64_t *counts = selection->counts->array.data;
    for (int64_t row = 0; row < view->batch * view->kv_heads; row++) {
        int64_t *indices = (int64_t *)selection->indices->array.data + row * view->tokens;
        int64_t count = budget->kept;
        for (int64_t entry = 0; entry < count; entry++) {
            indices[entry] = entry;
        }
#ifdef FAULT_TOO_MANY
        count = view->tokens + 1;
#endif
#ifdef FAULT_OUT_OF_RANGE
        indices[count - 1] = view->tokens;
#endif
#ifdef FAULT_DUPLICATES
        indices[count - 1] = count > 1 ? indices[count - 2] : 0;
#endif
#ifdef FAULT_DESCENDING
        for (int64_t entry = 0; entry < count; entry++) {
            indices[entry] = count - 1 - entry;
        }
#endif
#ifdef FAULT_NOTHING
        count = 0;
#endif
#ifdef FAULT_OVER_BUDGET
        count = count < view->tokens ? count + 1 : count;
        indices[count - 1] = count - 1;
#endif
#ifdef FAULT_UNEVEN_HEADS
        count = row % 2 && count > 1 ? count - 1 : count;
#endif
        counts[row] = count;
    }
    return PRESSROOM_OK;
}

#else

static uint32_t score(const PressroomCall *call, void *instance, const PressroomView *view,
                      const PressroomTensor *scores) {
    (void)call, (void)instance;
    misbehave(view);
#ifdef IDLE
    return PRESSROOM_OK;
#endif
#ifdef FAULT_FAIL_WITHOUT_REASON
    return PRESSROOM_FAILED;
#endif
#ifdef FAULT_UNKNOWN_STATUS
    return 77;
#endif
    float *out = scores->array.data;
    const int64_t rows = view->batch * view->kv_heads;
    float extra = 0;
#ifdef FAULT_RANDOM
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    extra = (float)(now.tv_nsec % 1000);
#endif
#ifdef FAULT_COUNTS_INSTANCES
    extra = (float)*(int *)instance;
#endif
#ifdef FAULT_REMEMBERS
    static float remembered;
    extra = remembered - number(view->keys, 0, 0, 0, 0);
    remembered = number(view->keys, 0, 0, 0, 0);
#endif
#ifdef FAULT_STALE_VIEW
    static const volatile float *kept;
    if (kept != NULL) {
        (void)kept[0];
    }
    kept = view->keys->array.data;
#endif
#ifdef FAULT_MIXES_BATCH
    extra = (float)view->batch;
#endif
#ifdef FAULT_SHARED_SCRATCH
    static float scratch[1 << 20];
#else
    float scratch[1];
#endif
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t token = 0; token < view->tokens; token++) {
            float sum = 0;
            for (int64_t channel = 0; channel < view->head_dim; channel++) {
                const float x = number(view->keys, row / view->kv_heads, row % view->kv_heads, token, channel);
#ifdef FAULT_OVERFLOWS
                sum += x * x * x * x * x * x * x * x * x * x * x * x;
#else
                sum += x * x;
#endif
            }
#ifdef FAULT_SHARED_SCRATCH
            scratch[token] = sum;
        }
        usleep(20); /* the other threads' turn: the fault shows on one core too */
        for (int64_t token = 0; token < view->tokens; token++) {
            float sum = scratch[token];
#else
            scratch[0] = sum;
            sum = scratch[0];
#endif
#ifdef FAULT_ZERO_DIVISION
            sum = sum / sqrtf(sum);
#endif
#ifdef FAULT_OVERFLOWS
            sum = sum - sum / 2;
            sum = sum - 2 * sum;
#endif
            out[row * view->tokens + token] = sum + extra;
        }
    }
#ifdef FAULT_UNWRITTEN
    const uint32_t nothing = 0x7FC0DEAD;
    memcpy(&out[view->tokens - 1], &nothing, sizeof nothing);
#endif
#ifdef FAULT_NAN
    out[1] = NAN;
#endif
#ifdef FAULT_MINUS_INFINITY
    out[1] = -INFINITY;
#endif
#ifdef FAULT_WRITES_PAST_END
    ((volatile float *)out)[rows * view->tokens] = 1;
#endif
#ifdef FAULT_WRITES_BEFORE_START
    ((volatile float *)out)[-1] = 1;
#endif
    return PRESSROOM_OK;
}

#endif

// ---- What is exported ----------------------------------------------------------------------------------------------

static const PressroomPress presses[] = {{
#ifdef FAULT_SHORT_PRESS
    .size = 8,
#else
    .size = sizeof(PressroomPress),
#endif
#ifdef FAULT_BAD_NAME
    .name = TEXT("Broken Press"),
#else
    .name = TEXT("broken"),
#endif
#if defined(FAULT_NO_SUMMARY)
    .doc = TEXT("broken\n\n# Idea\nA fault.\n\n# Formula\n`0`\n\n# Paper\nNone."),
#elif defined(FAULT_NO_SECTIONS)
    .doc = TEXT("Has one fault."),
#else
    .doc = TEXT("Has one fault.\n\n# Idea\nA fault.\n\n# Formula\n`0`\n\n# Paper\nNone."),
#endif
#if defined(FAULT_BROKEN_SCHEMA)
    .params = TEXT("{\"type\":\"object\",\"properties\":"),
#elif defined(FAULT_DEFAULT_OUT_OF_RANGE)
    .params = TEXT("{\"type\":\"object\",\"properties\":{\"size\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":9,"
                   "\"default\":10,\"description\":\"A size.\"}}}"),
#elif defined(FAULT_ODD_PARAMETER)
    .params = TEXT("{\"type\":\"object\",\"properties\":{\"a size\\n\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":9,"
                   "\"default\":1,\"description\":\"A size.\"}}}"),
#elif defined(FAULT_SILENT_PARAMETER)
    .params = TEXT("{\"type\":\"object\",\"properties\":{\"size\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":9,"
                   "\"default\":1}}}"),
#else
    .params = TEXT("{\"type\":\"object\",\"properties\":{\"size\":{\"type\":\"integer\",\"minimum\":1,"
                   "\"maximum\":1000,\"default\":1,\"description\":\"A size.\"}}}"),
#endif
    .create = create,
    .destroy = destroy,
    .needs = needs,
    .extension = extension,
#ifdef SELECTOR
    .kind = PRESSROOM_SELECTOR,
    .select = select_entries,
#else
    .kind = PRESSROOM_SCORER,
#ifndef FAULT_NO_SCORE
    .score = score,
#endif
#endif
}};

static uint32_t open_library(const PressroomHost *host, const PressroomCall *call) {
    (void)host, (void)call;
#ifdef FAULT_ABORT_AT_LOAD
    abort();
#endif
#ifdef FAULT_OPEN_FAILS
    return failed(call, "there is no licence");
#endif
    return PRESSROOM_OK;
}

static const PressroomPress *press(uint32_t index) {
    (void)index;
    return &presses[0];
}

#ifdef FAULT_MISSING_SYMBOL
extern int nobody_has_this(void);
int wants_it(void);
int wants_it(void) { return nobody_has_this(); }
#endif

#if defined(FAULT_ENTRY_IS_CODE)
#define pressroom_plugin_v1 pressroom_plugin_v1_unused
#elif defined(FAULT_OTHER_MAJOR)
#define pressroom_plugin_v1 pressroom_plugin_v2
#elif defined(FAULT_NO_ENTRY)
#define pressroom_plugin_v1 unrelated
#endif

PRESSROOM_EXPORT const PressroomEntry pressroom_plugin_v1 = {
    .magic = PRESSROOM_MAGIC,
    .size = sizeof(PressroomEntry),
    .abi_version = PRESSROOM_ABI_VERSION,
    .min_abi_version = 1,
    .press_count = sizeof presses / sizeof presses[0],
    .build = "broken, C",
    .open = open_library,
    .press = press,
#ifdef FAULT_WRONG_MAGIC
    .magic = 1,
#endif
#ifdef FAULT_SHORT_STRUCT
    .size = 16,
#endif
#ifdef FAULT_TOO_NEW
    .abi_version = 99,
    .min_abi_version = 99,
#endif
#ifdef FAULT_NO_PRESSES
    .press_count = 0,
#endif
#ifdef FAULT_TWO_OF_A_NAME
    .press_count = 2,
#endif
};

#ifdef FAULT_ENTRY_IS_CODE
#undef pressroom_plugin_v1
PRESSROOM_EXPORT int pressroom_plugin_v1_code(void) __asm__("pressroom_plugin_v1");
int pressroom_plugin_v1_code(void) { return 1; }
#endif
