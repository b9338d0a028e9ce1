//! Extensions: everything that is not lifecycle, score or select, asked for by name.

use core::ffi::c_void;

use crate::{PressroomCall, PressroomText};

/// Name of the host's extension `PressroomLog`.
pub const PRESSROOM_LOG: &str = "pressroom.log/1";

/// Tells the user something.
pub const PRESSROOM_LOG_INFO: u32 = 1;
/// Warns the user.
pub const PRESSROOM_LOG_WARN: u32 = 2;

/// The host's extension `PRESSROOM_LOG`: a line in the log, instead of a print on standard output.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PressroomLog {
    /// `sizeof(PressroomLog)` of the host.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Writes a line. `level` is one of `PRESSROOM_LOG_*`; the text is copied at once. Any thread. Not null.
    pub write: Option<unsafe extern "C" fn(level: u32, text: PressroomText)>,
}

/// Name of a press's extension `PressroomPrepare`.
pub const PRESSROOM_PREPARE: &str = "pressroom.prepare/1";

/// A press's extension `PRESSROOM_PREPARE`: a look at the model before any context.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PressroomPrepare {
    /// `sizeof(PressroomPrepare)` of the plugin.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Tells an instance for which model it will work, or is told why it cannot. Called by one thread, before any
    /// `score` or `select` of the instance; where several experiments share an instance, once for each, with the same
    /// model. Not null.
    pub prepare: Option<
        unsafe extern "C" fn(call: *const PressroomCall, instance: *mut c_void, model: *const PressroomModel) -> u32,
    >,
}

/// The model whose cache is compressed. Lent for one call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PressroomModel {
    /// `sizeof(PressroomModel)` of the host.
    pub size: u32,
    /// Decoder layers.
    pub layers: u32,
    /// Its folder's name, or its hub id.
    pub name: PressroomText,
    /// Query heads.
    pub heads: i64,
    /// KV heads.
    pub kv_heads: i64,
    /// Channels of a head.
    pub head_dim: i64,
    /// Width of the hidden states.
    pub hidden_size: i64,
}
