//! Lines in the host's log, instead of prints on standard output, which is the host's.

use std::sync::OnceLock;

use pressroom_plugin_abi::{
    PRESSROOM_LOG, PRESSROOM_LOG_INFO, PRESSROOM_LOG_WARN, PressroomHost, PressroomLog, PressroomText, read,
};

static LOG: OnceLock<PressroomLog> = OnceLock::new();

/// Asks the host for its log.
///
/// # Safety
/// `host` is lent by the host until the process ends.
pub(crate) unsafe fn find(host: *const PressroomHost) {
    // SAFETY: lent by the host; the extension's struct lives until the process ends.
    let log = unsafe {
        let extension = read(host).and_then(|host| host.extension);
        extension.and_then(|extension| read(extension(PressroomText::new(PRESSROOM_LOG)).cast::<PressroomLog>()))
    };
    if let Some(log) = log {
        // A library that is opened again has a log already.
        let _ = LOG.set(log);
    }
}

/// Tells the user something (shown with `-v`).
pub fn info(text: &str) {
    write(PRESSROOM_LOG_INFO, text);
}

/// Warns the user.
pub fn warn(text: &str) {
    write(PRESSROOM_LOG_WARN, text);
}

fn write(level: u32, text: &str) {
    if let Some(write) = LOG.get().and_then(|log| log.write) {
        // SAFETY: the function is the host's, found through its extension; the text is copied at once.
        unsafe { write(level, PressroomText::new(text)) }
    }
}
