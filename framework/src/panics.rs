//! Panics in code that others wrote: caught, told as a sentence, and kept off standard error.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// How many calls of [`caught`] this thread is inside of.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// What the last panic inside said, and where.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `call`; a panic inside becomes the first line of its message with its place in the source. What `call` had
/// begun to change may be half changed.
///
/// # Errors
/// The panic's message.
pub fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    static LISTEN: Once = Once::new();
    LISTEN.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| if DEPTH.get() > 0 { note(panic) } else { usual(panic) }));
    });
    DEPTH.set(DEPTH.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(call));
    DEPTH.set(DEPTH.get() - 1);
    outcome.map_err(|_| SAID.take())
}

fn note(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    let line = text.unwrap_or("unknown panic").lines().next().unwrap_or_default();
    let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
    SAID.set(format!("{line}{place}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_catches_is_shown() {
        if std::env::var_os("PRESSROOM_TEST_PANICS").is_some() {
            assert!(caught(|| panic!("caught by us")).is_err());
            panic!("caught by nobody");
        }
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["panics::tests::only_what_nobody_catches_is_shown", "--exact", "--nocapture"]);
        let output = child.env("PRESSROOM_TEST_PANICS", "1").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("caught by nobody") && !stderr.contains("caught by us"), "{stderr}");
    }

    #[test]
    fn the_message_and_its_place_come_back() {
        assert_eq!(caught(|| 7), Ok(7));
        let said = caught(|| panic!("shapes {}\nand a backtrace", 3)).unwrap_err();
        assert!(said.starts_with("shapes 3 (") && said.contains("panics.rs:"), "{said}");
        // Inside another, and with what is no text.
        let outer = caught(|| caught(|| std::panic::panic_any(7)).unwrap_err());
        assert!(outer.unwrap().starts_with("unknown panic"));
        assert_eq!(DEPTH.get(), 0);
    }
}
