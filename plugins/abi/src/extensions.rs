//! Extensions: everything that is not lifecycle, score or select, asked for by name.

use crate::PressroomText;

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
