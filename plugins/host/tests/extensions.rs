//! Extensions, where one side has them and the other has not.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::ffi::c_void;
use std::sync::Mutex;

use pressroom_plugin::testing::Layer;
use pressroom_plugin_abi::*;
use pressroom_plugin_host::{Instance, Library, LibraryFile, RawModel};

use support::compiled;

/// A press in C that refuses models of more than eight layers, and another that is not told of any. Both write to the
/// host's log if it has one.
const SOURCE: &str = r#"#include "pressroom_plugin.h"
#include <stddef.h>
#include <string.h>
#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}
static const PressroomLog *log_of_host;
static void tell(const char *line) {
    if (log_of_host != NULL) {
        log_of_host->write(PRESSROOM_LOG_WARN, (PressroomText){(const uint8_t *)line, strlen(line)});
    }
}
static uint32_t create(const PressroomCall *call, PressroomText params, void **instance) {
    (void)call, (void)params;
    *instance = NULL;
    tell("made");
    return PRESSROOM_OK;
}
static void destroy(void *instance) { (void)instance; }
static uint32_t needs(const PressroomCall *call, void *instance, PressroomNeeds *needs) {
    (void)call, (void)instance, (void)needs;
    return PRESSROOM_OK;
}
static uint32_t score(const PressroomCall *call, void *instance, const PressroomView *view, const PressroomTensor *out) {
    (void)call, (void)instance;
    memset(out->array.data, 0, sizeof(float) * (size_t)(view->batch * view->kv_heads * view->tokens));
    return PRESSROOM_OK;
}
static uint32_t prepare(const PressroomCall *call, void *instance, const PressroomModel *model) {
    (void)instance;
    tell("prepared");
    if (model->layers > 8) {
        call->fail(call, (PressroomText)TEXT("eight layers at most"));
        return PRESSROOM_FAILED;
    }
    return model->name.len == 4 && memcmp(model->name.data, "tiny", 4) == 0 && model->heads == 4 &&
                   model->kv_heads == 2 && model->head_dim == 8 && model->hidden_size == 32
               ? PRESSROOM_OK : PRESSROOM_PANICKED;
}
static const void *extension(PressroomText id) {
    static const PressroomPrepare prepares = {sizeof(PressroomPrepare), 0, prepare};
    const size_t len = sizeof PRESSROOM_PREPARE - 1;
    return id.len == len && memcmp(id.data, PRESSROOM_PREPARE, len) == 0 ? &prepares : NULL;
}
static const PressroomPress presses[] = {
    {sizeof(PressroomPress), PRESSROOM_SCORER, TEXT("small"), TEXT("Keeps."),
     TEXT("{\"type\":\"object\",\"properties\":{}}"), create, destroy, needs, score, NULL, extension},
    {sizeof(PressroomPress), PRESSROOM_SCORER, TEXT("any"), TEXT("Keeps."),
     TEXT("{\"type\":\"object\",\"properties\":{}}"), create, destroy, needs, score, NULL, NULL},
};
static uint32_t open_library(const PressroomHost *host, const PressroomCall *call) {
    (void)call;
    log_of_host = host->extension((PressroomText)TEXT(PRESSROOM_LOG));
    return PRESSROOM_OK;
}
static const PressroomPress *press(uint32_t index) { return &presses[index]; }
PRESSROOM_EXPORT const PressroomEntry pressroom_plugin_v1 = {
    PRESSROOM_MAGIC, sizeof(PressroomEntry), PRESSROOM_ABI_VERSION, 1, 2, "extensions, C", open_library, press
};
"#;

fn model(layers: u32) -> RawModel {
    RawModel { name: "tiny".into(), layers, heads: 4, kv_heads: 2, head_dim: 8, hidden_size: 32 }
}

#[test]
fn a_press_in_c_is_told_its_model_if_it_wants_to_know() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::load(LibraryFile::open(&compiled(folder.path(), SOURCE), None).unwrap()).unwrap();
    let [small, any] = library.presses() else { panic!("two presses are due") };
    let small = Instance::create(small, "{}").unwrap();
    small.prepare(&model(8)).unwrap();
    assert_eq!(small.prepare(&model(9)).unwrap_err().text, "eight layers at most");
    Instance::create(any, "{}").unwrap().prepare(&model(9)).unwrap();
}

/// Lines that plugins wrote to the log of [`host`].
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

unsafe extern "C" fn write(_: u32, text: PressroomText) {
    // SAFETY: the plugin lends the text for this call.
    let bytes = unsafe { std::slice::from_raw_parts(text.data, text.len as usize) };
    LINES.lock().unwrap().push(String::from_utf8_lossy(bytes).into_owned());
}

static LOG: PressroomLog = PressroomLog { size: size_of::<PressroomLog>() as u32, reserved: 0, write: Some(write) };

unsafe extern "C" fn with_log(id: PressroomText) -> *const c_void {
    // SAFETY: the plugin lends the name for this call.
    let id = unsafe { std::slice::from_raw_parts(id.data, id.len as usize) };
    if id == PRESSROOM_LOG.as_bytes() { (&raw const LOG).cast() } else { std::ptr::null() }
}

unsafe extern "C" fn without(_: PressroomText) -> *const c_void {
    std::ptr::null()
}

unsafe extern "C" fn no_reason(_: *const PressroomCall, _: PressroomText) {}

/// Opens `entry` and makes an instance of its first press, as a host with the extensions that `extension` gives.
fn open_and_create(entry: &PressroomEntry, extension: unsafe extern "C" fn(PressroomText) -> *const c_void) {
    // Lives until the process ends, as the interface asks.
    let host = Box::leak(Box::new(PressroomHost {
        size: size_of::<PressroomHost>() as u32,
        abi_version: PRESSROOM_ABI_VERSION,
        extension: Some(extension),
    }));
    let call = PressroomCall {
        size: size_of::<PressroomCall>() as u32,
        reserved: 0,
        host_data: std::ptr::null_mut(),
        fail: Some(no_reason),
    };
    let mut instance = std::ptr::null_mut();
    // SAFETY: as the interface says: `open` first, then a press below the number of presses, from one thread; the
    // instance is freed once.
    unsafe {
        assert_eq!(entry.open.unwrap()(host, &call), PRESSROOM_OK);
        let press = read(entry.press.unwrap()(0)).unwrap();
        assert_eq!(press.create.unwrap()(&call, PressroomText::new("{}"), &mut instance), PRESSROOM_OK);
        press.destroy.unwrap()(instance);
    }
}

#[test]
fn a_plugin_in_c_works_with_a_host_that_has_no_log() {
    let folder = tempfile::tempdir().unwrap();
    let library = compiled(folder.path(), SOURCE);
    // SAFETY: the library was just made and does nothing when it is loaded; the symbol is data of this type.
    unsafe {
        let library = libloading::Library::new(library).unwrap();
        let entry = library.get::<*const PressroomEntry>(PRESSROOM_ENTRY_SYMBOL.to_bytes_with_nul()).unwrap();
        open_and_create(&**entry, without);
        assert!(LINES.lock().unwrap().is_empty());
        open_and_create(&**entry, with_log);
        assert_eq!(*LINES.lock().unwrap(), ["made"]);
    }
}

mod plugin {
    use pressroom_plugin::{Model, Result, Scorer, Scores, View, warn};

    /// Keeps.
    #[derive(Default, serde::Deserialize, schemars::JsonSchema)]
    pub struct Told {}

    impl Scorer for Told {
        const NAME: &'static str = "told";

        fn check(&self) -> Result {
            warn("checked");
            Ok(())
        }

        fn prepare(&self, model: &Model) -> Result {
            if model.layers > 8 { Err("eight layers at most".into()) } else { Ok(()) }
        }

        fn score(&self, _: &View<'_>, _: &mut Scores<'_>) -> Result {
            Ok(())
        }
    }

    pressroom_plugin::export!(scorers: [Told]);
}

unsafe extern "C" {
    #[link_name = "pressroom_plugin_v1"]
    static OWN: PressroomEntry;
}

#[test]
fn a_plugin_of_the_sdk_works_with_a_host_that_has_no_extension() {
    // SAFETY: `export!` above defines the symbol, as constant data.
    let entry = unsafe { &OWN };
    open_and_create(entry, without);
    // Such a host prepares no press either; what it does not call does not hinder it.
    let scores = Layer::random(5, 1).score(&plugin::Told {}).unwrap();
    assert_eq!(scores.dim(), (1, 2, 5));
}

#[test]
fn a_press_of_the_sdk_is_told_its_model() {
    let library = std::env::current_exe().unwrap().parent().unwrap().join("libpressroom_plugin_examples.so");
    let library = Library::load(LibraryFile::open(&library, None).unwrap()).unwrap();
    for press in library.presses() {
        Instance::create(press, "{}").unwrap().prepare(&model(2)).unwrap();
    }
}
