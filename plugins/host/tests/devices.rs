//! What lies on a CUDA device, as a plugin sees it: a pretend device here, whose memory is the processor's.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::ffi::c_void;

use pressroom_plugin_abi::*;
use pressroom_plugin_host::{Dtype, Frame, Instance, Layer, Layout, Lent, Library, LibraryFile, Part};

use support::compiled;

/// `there` reads tensors on devices too, and scores by the norm of the keys if all it is lent lies on the second CUDA
/// device, for one stream. `copied` says nothing, so that the host copies for it.
const SOURCE: &str = r#"#include "pressroom_plugin.h"
#include <stddef.h>
#include <stdint.h>
#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}
static uint32_t create(const PressroomCall *call, PressroomText params, void **instance) {
    (void)call, (void)params;
    *instance = NULL;
    return PRESSROOM_OK;
}
static void destroy(void *instance) { (void)instance; }
static uint32_t needs_devices(const PressroomCall *call, void *instance, PressroomNeeds *needs) {
    (void)call, (void)instance;
    needs->devices = PRESSROOM_READS_CPU + PRESSROOM_READS_CUDA;
    return PRESSROOM_OK;
}
static uint32_t needs_nothing(const PressroomCall *call, void *instance, PressroomNeeds *needs) {
    (void)call, (void)instance, (void)needs;
    return PRESSROOM_OK;
}
static int lies_there(const PressroomTensor *tensor) {
    return tensor->array.device.device_type == PRESSROOM_CUDA && tensor->array.device.device_id == 1 &&
           (uintptr_t)tensor->stream == 0x5000;
}
static uint32_t score(const PressroomCall *call, void *instance, const PressroomView *view, const PressroomTensor *out) {
    (void)instance;
    if (!lies_there(view->keys) || !lies_there(view->values) || !lies_there(view->positions) || !lies_there(out)) {
        call->fail(call, (PressroomText)TEXT("not on the device"));
        return PRESSROOM_FAILED;
    }
    const int64_t *strides = view->keys->array.strides;
    const float *keys = view->keys->array.data;
    float *scores = out->array.data;
    for (int64_t head = 0; head < view->kv_heads; ++head)
        for (int64_t token = 0; token < view->tokens; ++token, ++scores) {
            *scores = 0;
            for (int64_t channel = 0; channel < view->head_dim; ++channel) {
                const float key = keys[head * strides[1] + token * strides[2] + channel * strides[3]];
                *scores -= key * key;
            }
        }
    return PRESSROOM_OK;
}
static const PressroomPress presses[] = {
    {sizeof(PressroomPress), PRESSROOM_SCORER, TEXT("there"), TEXT("Keeps."),
     TEXT("{\"type\":\"object\",\"properties\":{}}"), create, destroy, needs_devices, score, NULL, NULL},
    {sizeof(PressroomPress), PRESSROOM_SCORER, TEXT("copied"), TEXT("Keeps."),
     TEXT("{\"type\":\"object\",\"properties\":{}}"), create, destroy, needs_nothing, score, NULL, NULL},
};
static uint32_t open_library(const PressroomHost *host, const PressroomCall *call) {
    (void)host, (void)call;
    return PRESSROOM_OK;
}
static const PressroomPress *press(uint32_t index) { return &presses[index]; }
PRESSROOM_EXPORT const PressroomEntry pressroom_plugin_v1 = {
    PRESSROOM_MAGIC, sizeof(PressroomEntry), PRESSROOM_ABI_VERSION, 1, 2, "devices, C", open_library, press
};
"#;

const HEADS: usize = 2;
const TOKENS: usize = 3;
const CHANNELS: usize = 4;

fn frame() -> Frame {
    Frame {
        phase: PRESSROOM_PREFILL,
        layer: 0,
        layers: 1,
        batch: 1,
        heads: HEADS as i64,
        kv_heads: HEADS as i64,
        head_dim: CHANNELS as i64,
        tokens: TOKENS as i64,
        context_start: 0,
        context_end: TOKENS as i64,
        seed: 0,
    }
}

#[test]
fn a_press_that_reads_devices_sees_them_with_their_stream() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::load(LibraryFile::open(&compiled(folder.path(), SOURCE), None).unwrap()).unwrap();
    let [there, copied] = library.presses() else { panic!("two presses are due") };
    let (there, copied) = (Instance::create(there, "{}").unwrap(), Instance::create(copied, "{}").unwrap());
    assert_eq!(there.needs().unwrap().devices, PRESSROOM_READS_CPU | PRESSROOM_READS_CUDA);
    assert_eq!(copied.needs().unwrap().devices, PRESSROOM_READS_CPU);

    let keys: Vec<f32> = (0..HEADS * TOKENS * CHANNELS).map(|at| at as f32 / 8.0).collect();
    let positions: Vec<i64> = (0..HEADS * TOKENS).map(|at| (at % TOKENS) as i64).collect();
    let mut scores = vec![f32::NAN; HEADS * TOKENS];
    let (rows, entries) = ([1, HEADS as i64, TOKENS as i64, CHANNELS as i64], [1, HEADS as i64, TOKENS as i64]);
    let second = PressroomDevice { device_type: PRESSROOM_CUDA, device_id: 1 };
    let stream: *mut c_void = std::ptr::without_provenance_mut(0x5000);
    let float = |shape: &[i64]| Layout::contiguous(Dtype::F32, shape);
    let mut lend = |place: &dyn Fn(Lent) -> Lent| {
        let rows = || place(Lent::read_only(keys.as_ptr().cast(), float(&rows)));
        let at = Lent::read_only(positions.as_ptr().cast(), Layout::contiguous(Dtype::I64, &entries));
        let parts = vec![(Part::Keys, rows()), (Part::Values, rows()), (Part::Positions, place(at))];
        let results = place(Lent::writable(scores.as_mut_ptr().cast(), float(&entries)));
        (Layer { frame: frame(), parts }, results)
    };

    let (layer, results) = lend(&|lent| lent);
    assert_eq!(there.score(&layer, &results).unwrap_err().text, "not on the device");
    let (layer, results) = lend(&|lent| lent.on(second, stream));
    there.score(&layer, &results).unwrap();
    let due: Vec<f32> = keys.chunks(CHANNELS).map(|key| -key.iter().map(|x| x * x).sum::<f32>()).collect();
    assert_eq!(scores, due);
}
