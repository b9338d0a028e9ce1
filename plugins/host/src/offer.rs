//! What the host offers to plugins: the table that `open` gets, and the host's extensions.

use std::ffi::c_void;

use pressroom_plugin_abi::{
    PRESSROOM_ABI_VERSION, PRESSROOM_LOG, PRESSROOM_LOG_WARN, PressroomHost, PressroomLog, PressroomText,
};

use crate::call::text;

static LOG: PressroomLog =
    PressroomLog { size: size_of::<PressroomLog>() as u32, reserved: 0, write: Some(write_to_log) };

/// One table for each version that a plugin may share.
static HOSTS: [PressroomHost; PRESSROOM_ABI_VERSION as usize] = {
    let size = size_of::<PressroomHost>() as u32;
    let mut hosts =
        [PressroomHost { size, abi_version: 1, extension: Some(extension) }; PRESSROOM_ABI_VERSION as usize];
    let mut version = 1;
    while version < hosts.len() {
        hosts[version].abi_version = version as u32 + 1;
        version += 1;
    }
    hosts
};

/// The host's table for a plugin that shares interface version `agreed`, at least 1.
pub(crate) fn host(agreed: u32) -> &'static PressroomHost {
    &HOSTS[(agreed as usize).clamp(1, HOSTS.len()) - 1]
}

unsafe extern "C" fn extension(id: PressroomText) -> *const c_void {
    // SAFETY: the plugin lends the name for this call.
    match unsafe { text(id) }.as_deref() {
        Ok(PRESSROOM_LOG) => (&raw const LOG).cast(),
        _ => std::ptr::null(),
    }
}

unsafe extern "C" fn write_to_log(level: u32, line: PressroomText) {
    // SAFETY: the plugin lends the text for this call.
    let Ok(line) = (unsafe { text(line) }) else { return };
    if level >= PRESSROOM_LOG_WARN { tracing::warn!("{line}") } else { tracing::info!("{line}") }
}
