//! The one symbol that a plugin exports, and the host that opens it.

use core::ffi::{CStr, c_void};

use crate::{PressroomCall, PressroomPress, PressroomText};

/// Version of this interface within its first major version. Host and plugin use the lower of theirs.
pub const PRESSROOM_ABI_VERSION: u32 = 3;

/// First field of a `PressroomEntry`: "PRESSROM" in the memory of a little-endian machine.
pub const PRESSROOM_MAGIC: u64 = 0x4D4F_5253_5345_5250;

/// Bytes of `PressroomEntry::build`.
pub const PRESSROOM_BUILD_BYTES: usize = 104;

/// Name of the exported symbol. Another major version has another name.
pub const PRESSROOM_ENTRY_SYMBOL: &CStr = c"pressroom_plugin_v1";

/// What a plugin exports, as constant data called `pressroom_plugin_v1`. The host reads everything above `open` from
/// the file, before the library is loaded: a plugin that cannot work is refused without running its code.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PressroomEntry {
    /// `PRESSROOM_MAGIC`.
    pub magic: u64,
    /// `sizeof(PressroomEntry)` of the plugin.
    pub size: u32,
    /// `PRESSROOM_ABI_VERSION` of the header that the plugin was built with.
    pub abi_version: u32,
    /// Lowest version of a host that the plugin can work with, at least 1.
    pub min_abi_version: u32,
    /// Number of presses in the library, at least 1.
    pub press_count: u32,
    /// What built the plugin, for people to read: UTF-8, the rest zeros.
    pub build: [u8; PRESSROOM_BUILD_BYTES],
    /// Starts the library. The first call into it, made once in a process. `host` lives until the process ends. One
    /// thread. Not null.
    pub open: Option<unsafe extern "C" fn(host: *const PressroomHost, call: *const PressroomCall) -> u32>,
    /// The press at `index`, from 0 to `press_count`. Called after `open`, by one thread. What it points to lives
    /// until the process ends. Null only if the press cannot be described. Not null itself.
    pub press: Option<unsafe extern "C" fn(index: u32) -> *const PressroomPress>,
}

/// What the host offers to a library. Lives until the process ends.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PressroomHost {
    /// `sizeof(PressroomHost)` of the host.
    pub size: u32,
    /// The version in use: the lower one of host and plugin.
    pub abi_version: u32,
    /// The host's extension called `id` (a struct that starts with its size and lives until the process ends), or
    /// null. Any thread. Not null itself.
    pub extension: Option<unsafe extern "C" fn(id: PressroomText) -> *const c_void>,
}
