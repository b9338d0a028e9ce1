//! Calls into a plugin, and what they say when they fail.

use std::ffi::c_void;
use std::fmt;

use pressroom_plugin_abi::{PRESSROOM_FAILED, PRESSROOM_OK, PRESSROOM_PANICKED, PressroomCall, PressroomText};
use serde::{Deserialize, Serialize};

/// Stands where a plugin failed without a word.
const NO_REASON: &str = "it gave no reason";

/// Stands where a plugin's status is none of the interface's.
const NO_STATUS: &str = "which is no status";

/// Longest text that is taken from a plugin.
const LONGEST_TEXT: u64 = 1 << 20;

/// A call that did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong, in the plugin's words where it had any.
    pub text: String,
}

impl Failure {
    /// A failure for a reason of the host's.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// Whether the plugin gave a status that the interface knows, and said why.
    pub(crate) fn has_reason(&self) -> bool {
        !self.text.contains(NO_REASON) && !self.text.contains(NO_STATUS)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// Makes a call: `run` gets the call and gives the plugin's status.
pub(crate) fn calling(run: impl FnOnce(*const PressroomCall) -> u32) -> Result<(), Failure> {
    let mut reason: Option<String> = None;
    let call = PressroomCall {
        size: size_of::<PressroomCall>() as u32,
        reserved: 0,
        host_data: (&raw mut reason).cast::<c_void>(),
        fail: Some(fail),
    };
    let status = run(&call);
    let reason = reason.filter(|reason| !reason.is_empty()).unwrap_or_else(|| NO_REASON.into());
    match status {
        PRESSROOM_OK => Ok(()),
        PRESSROOM_FAILED | PRESSROOM_PANICKED => Err(Failure { text: reason }),
        other => Err(Failure { text: format!("it returned {other}, {NO_STATUS} ({reason})") }),
    }
}

unsafe extern "C" fn fail(call: *const PressroomCall, reason: PressroomText) {
    // SAFETY: the plugin hands back the call that it was given, whose data is the reason of `calling`, on the same
    // thread and before it returns.
    let place = unsafe { &mut *(*call).host_data.cast::<Option<String>>() };
    // SAFETY: the plugin lends the text for this call.
    *place = Some(unsafe { text(reason) }.unwrap_or_else(|problem| format!("it gave a reason that is {problem}")));
}

/// Copies a plugin's text.
///
/// # Safety
/// `text` is null and 0, or `len` readable bytes.
pub(crate) unsafe fn text(text: PressroomText) -> Result<String, String> {
    if text.len == 0 {
        return Ok(String::new());
    }
    if text.data.is_null() {
        return Err("no text but a null pointer".into());
    }
    if text.len > LONGEST_TEXT {
        return Err(format!("too long a text: {} bytes", text.len));
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(text.data, text.len as usize) };
    String::from_utf8(bytes.to_vec()).map_err(|_| "text that is not UTF-8".into())
}
