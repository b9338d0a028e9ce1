// The C interface between Pressroom and its plugins. Made from the crate plugins/abi; docs/abi.md explains it.

#ifndef PRESSROOM_PLUGIN_H
#define PRESSROOM_PLUGIN_H

#include <stdint.h>

// Names of extensions.
#define PRESSROOM_LOG "pressroom.log/1"
#define PRESSROOM_PREPARE "pressroom.prepare/1"

// The call did what it was asked to.
#define PRESSROOM_OK 0

// The call failed; the reason was given to `PressroomCall::fail`.
#define PRESSROOM_FAILED 1

// The plugin's own code panicked (or threw) and was stopped at the boundary; the reason was given likewise.
#define PRESSROOM_PANICKED 2

// `PressroomDevice::device_type` of the processor (DLPack's kDLCPU).
#define PRESSROOM_CPU 1

// `PressroomDevice::device_type` of a CUDA device (DLPack's kDLCUDA).
#define PRESSROOM_CUDA 2

// `PressroomDtype::code` of signed integers (DLPack's kDLInt).
#define PRESSROOM_INT 0

// `PressroomDtype::code` of IEEE floating point (DLPack's kDLFloat).
#define PRESSROOM_FLOAT 2

// `PressroomDtype::code` of bfloat16 (DLPack's kDLBfloat).
#define PRESSROOM_BFLOAT 4

// `PressroomTensor::flags`: the plugin must not write.
#define PRESSROOM_READ_ONLY 1

// The context is being read; the press sees all of it.
#define PRESSROOM_PREFILL 1

// Tokens are being generated; the press sees what the cache holds by now.
#define PRESSROOM_DECODING 2

// A press that ranks KV pairs: it has `score`. Usable alone, in chains and inside wrappers.
#define PRESSROOM_SCORER 1

// A press that decides itself: it has `select`. Usable alone and in chains.
#define PRESSROOM_SELECTOR 2

// The plugin reads tensors in the memory of the processor.
#define PRESSROOM_READS_CPU 1

// The plugin reads tensors in the memory of a CUDA device.
#define PRESSROOM_READS_CUDA 2

// Every token, as a number of last tokens in `PressroomNeeds`.
#define PRESSROOM_ALL_TOKENS UINT64_MAX

// Tells the user something.
#define PRESSROOM_LOG_INFO 1

// Warns the user.
#define PRESSROOM_LOG_WARN 2

// Version of this interface within its first major version. Host and plugin use the lower of theirs.
#define PRESSROOM_ABI_VERSION 2

// First field of a `PressroomEntry`: "PRESSROM" in the memory of a little-endian machine.
#define PRESSROOM_MAGIC 5570761781913408080

// Bytes of `PressroomEntry::build`.
#define PRESSROOM_BUILD_BYTES 104

// Borrowed text: UTF-8, no terminating zero counted. `data` may be null where `len` is 0.
typedef struct PressroomText {
    // First byte.
    const uint8_t *data;
    // Bytes.
    uint64_t len;
} PressroomText;

// What the host offers to a library. Lives until the process ends.
typedef struct PressroomHost {
    // `sizeof(PressroomHost)` of the host.
    uint32_t size;
    // The version in use: the lower one of host and plugin.
    uint32_t abi_version;
    // The host's extension called `id` (a struct that starts with its size and lives until the process ends), or
    // null. Any thread. Not null itself.
    const void *(*extension)(struct PressroomText id);
} PressroomHost;

// One call into the plugin, made by the host on its stack. Valid until the call returns.
typedef struct PressroomCall {
    // `sizeof(PressroomCall)` of the host.
    uint32_t size;
    // Zero.
    uint32_t reserved;
    // The host's own; the plugin leaves it alone.
    void *host_data;
    // Says why the call is about to fail. The text is copied at once. Called from the thread of the call, at most
    // once, before the call returns a status other than `PRESSROOM_OK`. Never null.
    void (*fail)(const struct PressroomCall *call, struct PressroomText reason);
} PressroomCall;

// What an instance reads of a layer beside keys, values and positions.
typedef struct PressroomNeeds {
    // `sizeof(PressroomNeeds)` of the host; the plugin fills no more than that.
    uint32_t size;
    // Where it can read tensors, `PRESSROOM_READS_*` added; 0 is `PRESSROOM_READS_CPU`. The host copies what lies
    // elsewhere.
    uint32_t devices;
    // Last tokens of which queries before rotary embedding are read.
    uint64_t queries;
    // Last tokens of which queries after rotary embedding are read.
    uint64_t rotated_queries;
    // Last tokens of which attention weights are read.
    uint64_t attention;
    // 1: hidden states are read.
    uint32_t hidden_states;
    // 1: KV heads may keep different numbers (selectors only).
    uint32_t head_wise;
    // 1: attention sums are read. Since version 2.
    uint32_t attention_sums;
    // 1: the output projection is read. Since version 2.
    uint32_t output_projection;
} PressroomNeeds;

// Where a tensor lies; the layout of DLPack's DLDevice.
typedef struct PressroomDevice {
    // `PRESSROOM_CPU` or `PRESSROOM_CUDA`.
    int32_t device_type;
    // Which one, from 0.
    int32_t device_id;
} PressroomDevice;

// Type of a tensor's elements; the layout of DLPack's DLDataType.
typedef struct PressroomDtype {
    // `PRESSROOM_INT`, `PRESSROOM_FLOAT` or `PRESSROOM_BFLOAT`.
    uint8_t code;
    // Bits of an element: 64 of integers, 16 or 32 of numbers.
    uint8_t bits;
    // 1.
    uint16_t lanes;
} PressroomDtype;

// A strided array; the layout of DLPack's DLTensor, so that a pointer to one can be handed to whatever reads DLPack.
typedef struct PressroomArray {
    // Start of the memory.
    void *data;
    // Where the memory is.
    struct PressroomDevice device;
    // Number of axes.
    int32_t ndim;
    // Type of the elements.
    struct PressroomDtype dtype;
    // Length of each axis, `ndim` of them.
    const int64_t *shape;
    // Elements from one index of an axis to the next, `ndim` of them, never null; 0 where an axis is repeated, never
    // negative.
    const int64_t *strides;
    // Bytes from `data` to the first element.
    uint64_t byte_offset;
} PressroomArray;

// A tensor that the host lends to the plugin for one call. On the processor nothing is copied for it.
typedef struct PressroomTensor {
    // `sizeof(PressroomTensor)` of the host.
    uint32_t size;
    // `PRESSROOM_READ_ONLY` or 0.
    uint32_t flags;
    // Where and what.
    struct PressroomArray array;
    // Bytes from `data` to the end of the last element.
    uint64_t byte_len;
    // Of a CUDA tensor: the stream (`cudaStream_t`) on which it was written, and on which results are awaited.
    void *stream;
} PressroomTensor;

// One layer's keys and values, and what the press declared to read beside them. Lent for one call: neither the view
// nor its tensors may be used after the call has returned. Tensors that were not declared are null.
//
// Keys, values, positions and attention columns are those still in question: all of the context at first; after a
// stage of a chain, what that stage left.
typedef struct PressroomView {
    // `sizeof(PressroomView)` of the host.
    uint32_t size;
    // `PRESSROOM_PREFILL` or `PRESSROOM_DECODING`.
    uint32_t phase;
    // Layer, from 0.
    uint32_t layer;
    // Decoder layers of the model.
    uint32_t layers;
    // Sequences.
    int64_t batch;
    // Query heads.
    int64_t heads;
    // KV heads; `heads / kv_heads` consecutive query heads form the query group of one.
    int64_t kv_heads;
    // Channels of a head.
    int64_t head_dim;
    // Entries per KV head in question.
    int64_t tokens;
    // Position of the first token of the uncompressed context, or of the slice of it that is in view.
    int64_t context_start;
    // Position of the token that follows it.
    int64_t context_end;
    // Seed for random numbers, derived from the run's, the sample and the layer.
    uint64_t seed;
    // Keys after rotary embedding, `[batch, kv_heads, tokens, head_dim]`: float32, float16 or bfloat16.
    const struct PressroomTensor *keys;
    // Values, as `keys`.
    const struct PressroomTensor *values;
    // Position of each entry in the uncompressed context, int64 `[batch, kv_heads, tokens]`.
    const struct PressroomTensor *positions;
    // The last queries before rotary embedding, `[batch, heads, n, head_dim]`, as declared: float32, float16 or
    // bfloat16. Fewer where the context is shorter, and while decoding where fewer are remembered.
    const struct PressroomTensor *queries;
    // The last queries after rotary embedding, float32, as declared.
    const struct PressroomTensor *rotated_queries;
    // Attention weights of the last queries over the entries, float32 `[batch, heads, n, tokens]`, as declared.
    const struct PressroomTensor *attention;
    // What enters the attention block, `[batch, n, hidden]`: float32, float16 or bfloat16. Of all tokens of the context;
    // while decoding, of the last ones, as far as they are remembered.
    const struct PressroomTensor *hidden_states;
    // Attention that each entry received from all queries of the context, float32 `[batch, heads, tokens]`. Since
    // version 2.
    const struct PressroomTensor *attention_sums;
    // Weight of the attention block's output projection, `[hidden, heads * head_dim]`: float32, float16 or bfloat16.
    // Since version 2.
    const struct PressroomTensor *output_projection;
} PressroomView;

// How much of a layer may stay.
typedef struct PressroomBudget {
    // `sizeof(PressroomBudget)` of the host.
    uint32_t size;
    // Zero.
    uint32_t reserved;
    // The compression ratio: the fraction removed, in `[0, 1)`.
    double compression_ratio;
    // Entries that each KV head may keep, at least 1; a head-wise press keeps as many on average over the heads of a
    // sequence.
    int64_t kept;
} PressroomBudget;

// Where a selector writes its decision. The host has filled `counts` with zeros.
typedef struct PressroomSelection {
    // `sizeof(PressroomSelection)` of the host.
    uint32_t size;
    // Zero.
    uint32_t reserved;
    // How many entries each KV head keeps, int64 `[batch, kv_heads]`, contiguous.
    const struct PressroomTensor *counts;
    // Which: int64 `[batch, kv_heads, tokens]`, contiguous; of each row the first `counts` are read. They ascend and
    // are at least 0 and less than `tokens`.
    const struct PressroomTensor *indices;
} PressroomSelection;

// A press of a library. Constant; lives until the process ends.
typedef struct PressroomPress {
    // `sizeof(PressroomPress)` of the plugin.
    uint32_t size;
    // `PRESSROOM_SCORER` or `PRESSROOM_SELECTOR`.
    uint32_t kind;
    // Name in TOML: `[a-z][a-z0-9_]*`.
    struct PressroomText name;
    // Documentation in Markdown: a summary line, then the sections `# Idea`, `# Formula` and `# Paper`.
    struct PressroomText doc;
    // Parameters as JSON Schema, of which this subset is read: an object with `properties`; each has `type` (integer,
    // number, boolean, string, or a list of one of these and null where it may be absent), `description`, `default`,
    // `minimum`, `maximum`, `unit`, and for strings `enum`.
    struct PressroomText params;
    // Makes an instance from parameters: a JSON object that holds every parameter that has a value. On success
    // `instance` gets a pointer that the host hands back and never follows. Any thread. Not null.
    uint32_t (*create)(const struct PressroomCall *call, struct PressroomText params, void **instance);
    // Frees an instance that no call uses any more. Any thread. Not null.
    void (*destroy)(void *instance);
    // What the instance reads; the same at every call. The host has set `needs` to zeros and its own size. Any thread.
    // Not null.
    uint32_t (*needs)(const struct PressroomCall *call, void *instance, struct PressroomNeeds *needs);
    // Writes a score for every entry of `view` into `scores`, float32 `[batch, kv_heads, tokens]`, contiguous: higher
    // is kept longer, plus infinity always; never NaN or minus infinity. Prefill and decoding. Any thread, several at
    // a time. Not null in a scorer.
    uint32_t (*score)(const struct PressroomCall *call,
                      void *instance,
                      const struct PressroomView *view,
                      const struct PressroomTensor *scores);
    // Writes into `selection` which entries of `view` each KV head keeps. Prefill and decoding. Any thread, several at
    // a time. Not null in a selector.
    uint32_t (*select)(const struct PressroomCall *call,
                       void *instance,
                       const struct PressroomView *view,
                       const struct PressroomBudget *budget,
                       const struct PressroomSelection *selection);
    // The press's extension called `id` (a struct that starts with its size and lives until the process ends), or
    // null. Any thread. May be null itself: no extensions.
    const void *(*extension)(struct PressroomText id);
} PressroomPress;

// What a plugin exports, as constant data called `pressroom_plugin_v1`. The host reads everything above `open` from
// the file, before the library is loaded: a plugin that cannot work is refused without running its code.
typedef struct PressroomEntry {
    // `PRESSROOM_MAGIC`.
    uint64_t magic;
    // `sizeof(PressroomEntry)` of the plugin.
    uint32_t size;
    // `PRESSROOM_ABI_VERSION` of the header that the plugin was built with.
    uint32_t abi_version;
    // Lowest version of a host that the plugin can work with, at least 1.
    uint32_t min_abi_version;
    // Number of presses in the library, at least 1.
    uint32_t press_count;
    // What built the plugin, for people to read: UTF-8, the rest zeros.
    uint8_t build[PRESSROOM_BUILD_BYTES];
    // Starts the library. The first call into it, made once in a process. `host` lives until the process ends. One
    // thread. Not null.
    uint32_t (*open)(const struct PressroomHost *host, const struct PressroomCall *call);
    // The press at `index`, from 0 to `press_count`. Called after `open`, by one thread. What it points to lives
    // until the process ends. Null only if the press cannot be described. Not null itself.
    const struct PressroomPress *(*press)(uint32_t index);
} PressroomEntry;

// The host's extension `PRESSROOM_LOG`: a line in the log, instead of a print on standard output.
typedef struct PressroomLog {
    // `sizeof(PressroomLog)` of the host.
    uint32_t size;
    // Zero.
    uint32_t reserved;
    // Writes a line. `level` is one of `PRESSROOM_LOG_*`; the text is copied at once. Any thread. Not null.
    void (*write)(uint32_t level, struct PressroomText text);
} PressroomLog;

// The model whose cache is compressed. Lent for one call.
typedef struct PressroomModel {
    // `sizeof(PressroomModel)` of the host.
    uint32_t size;
    // Decoder layers.
    uint32_t layers;
    // Its folder's name, or its hub id.
    struct PressroomText name;
    // Query heads.
    int64_t heads;
    // KV heads.
    int64_t kv_heads;
    // Channels of a head.
    int64_t head_dim;
    // Width of the hidden states.
    int64_t hidden_size;
} PressroomModel;

// A press's extension `PRESSROOM_PREPARE`: a look at the model before any context.
typedef struct PressroomPrepare {
    // `sizeof(PressroomPrepare)` of the plugin.
    uint32_t size;
    // Zero.
    uint32_t reserved;
    // Tells an instance for which model it will work, or is told why it cannot. Called by one thread, before any
    // `score` or `select` of the instance; where several experiments share an instance, once for each, with the same
    // model. Not null.
    uint32_t (*prepare)(const struct PressroomCall *call, void *instance, const struct PressroomModel *model);
} PressroomPrepare;

#endif  /* PRESSROOM_PLUGIN_H */

#ifdef __cplusplus
extern "C" {
#endif
// The one symbol that a plugin exports: `PRESSROOM_EXPORT const PressroomEntry pressroom_plugin_v1 = { ... };`
#define PRESSROOM_EXPORT __attribute__((visibility("default")))
extern const PressroomEntry pressroom_plugin_v1;
#ifdef __cplusplus
}
#endif
