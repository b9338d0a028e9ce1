//! Text, statuses, and how a call says what went wrong.

use core::ffi::c_void;

/// The call did what it was asked to.
pub const PRESSROOM_OK: u32 = 0;
/// The call failed; the reason was given to `PressroomCall::fail`.
pub const PRESSROOM_FAILED: u32 = 1;
/// The plugin's own code panicked (or threw) and was stopped at the boundary; the reason was given likewise.
pub const PRESSROOM_PANICKED: u32 = 2;

/// Borrowed text: UTF-8, no terminating zero counted. `data` may be null where `len` is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PressroomText {
    /// First byte.
    pub data: *const u8,
    /// Bytes.
    pub len: u64,
}

impl PressroomText {
    /// Borrows `text`; the caller sees to it that it lives as long as it is read.
    pub const fn new(text: &str) -> Self {
        Self { data: text.as_ptr(), len: text.len() as u64 }
    }
}

/// One call into the plugin, made by the host on its stack. Valid until the call returns.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PressroomCall {
    /// `sizeof(PressroomCall)` of the host.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// The host's own; the plugin leaves it alone.
    pub host_data: *mut c_void,
    /// Says why the call is about to fail. The text is copied at once. Called from the thread of the call, at most
    /// once, before the call returns a status other than `PRESSROOM_OK`. Never null.
    pub fail: Option<unsafe extern "C" fn(call: *const PressroomCall, reason: PressroomText)>,
}
