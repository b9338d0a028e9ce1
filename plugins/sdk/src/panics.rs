//! Panics of the author's code: caught here, because they cannot be caught on the other side of a C interface.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::sync::Once;

thread_local! {
    /// Message and place of this thread's last panic.
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Makes panics of this library note their message and place instead of printing them.
pub(crate) fn note_panics() {
    static ONCE: Once = Once::new();
    // The hook is that of this library's own copy of std: the host's panics are not touched.
    ONCE.call_once(|| set_hook(Box::new(note)));
}

fn note(info: &PanicHookInfo<'_>) {
    let place = info.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
    let text = format!("panicked{place}: {}", message(info.payload()));
    // A thread that is going away has no place to note it; the panic itself is caught all the same.
    let _ = LAST.try_with(|last| last.replace(text));
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

/// Runs `work`; a panic in it is its message and place.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let noted = LAST.try_with(RefCell::take).unwrap_or_default();
        let text = if noted.is_empty() { format!("panicked: {}", message(payload.as_ref())) } else { noted };
        // A payload may panic when it is dropped; it stays.
        std::mem::forget(payload);
        text
    })
}
