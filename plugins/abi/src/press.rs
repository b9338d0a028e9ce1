//! A press: its description, its life, and the two things that it can do.

use core::ffi::c_void;

use crate::{PressroomCall, PressroomTensor, PressroomText, PressroomView};

/// A press that ranks KV pairs: it has `score`. Usable alone, in chains and inside wrappers.
pub const PRESSROOM_SCORER: u32 = 1;
/// A press that decides itself: it has `select`. Usable alone and in chains.
pub const PRESSROOM_SELECTOR: u32 = 2;

/// The plugin reads tensors in the memory of the processor.
pub const PRESSROOM_READS_CPU: u32 = 1;
/// The plugin reads tensors in the memory of a CUDA device.
pub const PRESSROOM_READS_CUDA: u32 = 2;

/// Every token, as a number of last tokens in `PressroomNeeds`.
pub const PRESSROOM_ALL_TOKENS: u64 = u64::MAX;

/// A press of a library. Constant; lives until the process ends.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PressroomPress {
    /// `sizeof(PressroomPress)` of the plugin.
    pub size: u32,
    /// `PRESSROOM_SCORER` or `PRESSROOM_SELECTOR`.
    pub kind: u32,
    /// Name in TOML: `[a-z][a-z0-9_]*`.
    pub name: PressroomText,
    /// Documentation in Markdown: a summary line, then the sections `# Idea`, `# Formula` and `# Paper`.
    pub doc: PressroomText,
    /// Parameters as JSON Schema, of which this subset is read: an object with `properties`; each has `type` (integer,
    /// number, boolean, string, or a list of one of these and null where it may be absent), `description`, `default`,
    /// `minimum`, `maximum`, `unit`, and for strings `enum`.
    pub params: PressroomText,
    /// Makes an instance from parameters: a JSON object that holds every parameter that has a value. On success
    /// `instance` gets a pointer that the host hands back and never follows. Any thread. Not null.
    pub create: Option<
        unsafe extern "C" fn(call: *const PressroomCall, params: PressroomText, instance: *mut *mut c_void) -> u32,
    >,
    /// Frees an instance that no call uses any more. Any thread. Not null.
    pub destroy: Option<unsafe extern "C" fn(instance: *mut c_void)>,
    /// What the instance reads; the same at every call. The host has set `needs` to zeros and its own size. Any thread.
    /// Not null.
    pub needs: Option<
        unsafe extern "C" fn(call: *const PressroomCall, instance: *mut c_void, needs: *mut PressroomNeeds) -> u32,
    >,
    /// Writes a score for every entry of `view` into `scores`, float32 `[batch, kv_heads, tokens]`, contiguous: higher
    /// is kept longer, plus infinity always; never NaN or minus infinity. Prefill and decoding. Any thread, several at
    /// a time. Not null in a scorer.
    pub score: Option<
        unsafe extern "C" fn(
            call: *const PressroomCall,
            instance: *mut c_void,
            view: *const PressroomView,
            scores: *const PressroomTensor,
        ) -> u32,
    >,
    /// Writes into `selection` which entries of `view` each KV head keeps. Prefill and decoding. Any thread, several at
    /// a time. Not null in a selector.
    pub select: Option<
        unsafe extern "C" fn(
            call: *const PressroomCall,
            instance: *mut c_void,
            view: *const PressroomView,
            budget: *const PressroomBudget,
            selection: *const PressroomSelection,
        ) -> u32,
    >,
    /// The press's extension called `id` (a struct that starts with its size and lives until the process ends), or
    /// null. Any thread. May be null itself: no extensions.
    pub extension: Option<unsafe extern "C" fn(id: PressroomText) -> *const c_void>,
}

/// What an instance reads of a layer beside positions, and beside keys and values unless it says that it does without.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PressroomNeeds {
    /// `sizeof(PressroomNeeds)` of the host; the plugin fills no more than that.
    pub size: u32,
    /// Where it can read tensors, `PRESSROOM_READS_*` added; 0 is `PRESSROOM_READS_CPU`. The host copies what lies
    /// elsewhere.
    pub devices: u32,
    /// Last tokens of which queries before rotary embedding are read.
    pub queries: u64,
    /// Last tokens of which queries after rotary embedding are read.
    pub rotated_queries: u64,
    /// Last tokens of which attention weights are read.
    pub attention: u64,
    /// 1: hidden states are read.
    pub hidden_states: u32,
    /// 1: KV heads may keep different numbers (selectors only).
    pub head_wise: u32,
    /// 1: attention sums are read. Since version 2.
    pub attention_sums: u32,
    /// 1: the output projection is read. Since version 2.
    pub output_projection: u32,
    /// 1: keys are not read, and not copied where the press is shown copies. Since version 3.
    pub without_keys: u32,
    /// 1: values are not read, as keys. Since version 3.
    pub without_values: u32,
}

/// How much of a layer may stay.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PressroomBudget {
    /// `sizeof(PressroomBudget)` of the host.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// The compression ratio: the fraction removed, in `[0, 1)`.
    pub compression_ratio: f64,
    /// Entries that each KV head may keep, at least 1; a head-wise press keeps as many on average over the heads of a
    /// sequence.
    pub kept: i64,
}

/// Where a selector writes its decision. The host has filled `counts` with zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PressroomSelection {
    /// `sizeof(PressroomSelection)` of the host.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// How many entries each KV head keeps, int64 `[batch, kv_heads]`, contiguous.
    pub counts: *const PressroomTensor,
    /// Which: int64 `[batch, kv_heads, tokens]`, contiguous; of each row the first `counts` are read. They ascend and
    /// are at least 0 and less than `tokens`.
    pub indices: *const PressroomTensor,
}
