//! Checks of what a press does to the process that it is a guest in.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;

use super::subject::Subject;
use super::{Fault, PressCheck, Verdict, failed, press_check};

pub(super) const CHECKS: &[PressCheck] = &[
    press_check("quiet", "writes nothing to standard output", "answers", |subject| after_use(subject, || is_quiet(1))),
    press_check("quiet-errors", "writes nothing to standard error", "answers", |subject| {
        after_use(subject, || match is_quiet(2) {
            Err(Fault::Failed(text)) => Err(Fault::Warning(text)),
            other => other,
        })
    }),
    press_check("no-processes", "starts no process", "answers", |subject| after_use(subject, no_processes)),
    press_check("no-threads-left", "leaves no thread behind", "answers", |subject| {
        // Threads that are started once and wait for the next call are a pool.
        in_use(subject)?;
        unchanged(subject, "the number of threads", task_count)
    }),
    press_check("locale", "leaves the locale as it is", "answers", |subject| unchanged(subject, "the locale", locale)),
    press_check(
        "floating-point",
        "leaves rounding and the other modes of floating point as they are",
        "answers",
        |subject| unchanged(subject, "the floating-point modes", floating_point_modes),
    ),
    press_check("environment", "leaves the environment as it is", "answers", |subject| {
        unchanged(subject, "the environment", || std::env::vars_os().collect::<BTreeSet<_>>())
    }),
    press_check("working-directory", "leaves the working directory as it is", "answers", |subject| {
        unchanged(subject, "the working directory", || std::env::current_dir().ok())
    }),
    press_check("signals", "leaves the handling of signals as it is", "answers", |subject| {
        unchanged(subject, "the handling of signals", signal_handlers)
    }),
    press_check("descriptors", "closes the files that it opens", "answers", |subject| {
        unchanged(subject, "the open files", open_files)
    }),
    press_check("leaks", "frees what it allocates", "answers", leaks),
];

/// Makes an instance, asks it twice and frees it.
fn in_use(subject: &Subject<'_>) -> Verdict {
    let instance = subject.instance()?;
    let case = subject.plain(&instance)?;
    subject.ask(&instance, &case)?;
    Ok(())
}

fn after_use(subject: &Subject<'_>, look: impl FnOnce() -> Verdict) -> Verdict {
    in_use(subject)?;
    look()
}

/// Compares something about the process before and after the press was used.
fn unchanged<T: PartialEq>(subject: &Subject<'_>, what: &str, look: impl Fn() -> T) -> Verdict {
    let before = look();
    in_use(subject)?;
    if look() == before { Ok(()) } else { failed(format!("changes {what}")) }
}

/// Whether nothing has been written to a descriptor, which the sandbox has made a file.
pub(super) fn is_quiet(descriptor: i32) -> Verdict {
    // SAFETY: writes out the buffers of C's streams; the descriptor is open and is not closed here.
    let written = unsafe {
        libc::fflush(std::ptr::null_mut());
        let file = std::mem::ManuallyDrop::new(File::from_raw_fd(descriptor));
        file.metadata().map(|metadata| metadata.len())
    };
    match written? {
        0 => Ok(()),
        bytes => failed(format!("writes {bytes} bytes; the host's log is there for that")),
    }
}

fn no_processes() -> Verdict {
    // SAFETY: asks for children of this process, which is itself a copy and has none of its own.
    let found = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
    if found < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD) {
        return Ok(());
    }
    failed("starts a process")
}

fn task_count() -> usize {
    // A thread that was told to end may need a moment.
    std::thread::sleep(std::time::Duration::from_millis(20));
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

fn locale() -> Vec<u8> {
    // SAFETY: asks for the name of the locale, a text that lives until the next call.
    unsafe {
        let name = libc::setlocale(libc::LC_ALL, std::ptr::null());
        if name.is_null() { Vec::new() } else { CStr::from_ptr(name).to_bytes().to_vec() }
    }
}

/// Control bits of the floating-point unit, without the flags that arithmetic raises.
#[cfg(target_arch = "x86_64")]
fn floating_point_modes() -> u32 {
    let mut modes = 0u32;
    // SAFETY: stores the register into a place that lives for the instruction.
    unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &mut modes, options(nostack, preserves_flags)) };
    modes & 0xFFC0
}

/// Control bits of the floating-point unit.
#[cfg(target_arch = "aarch64")]
fn floating_point_modes() -> u64 {
    let modes: u64;
    // SAFETY: reads a register.
    unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) modes, options(nomem, nostack, preserves_flags)) };
    modes
}

fn signal_handlers() -> Vec<usize> {
    let handler = |signal| {
        // SAFETY: asks for a handler into a zeroed struct of plain data.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &mut action);
            action.sa_sigaction
        }
    };
    (1..32).map(handler).collect()
}

fn open_files() -> BTreeSet<std::ffi::OsString> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).collect()
}

/// Bytes that C's allocator has given out.
fn allocated() -> usize {
    // SAFETY: asks the allocator.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

/// Uses before allocations are counted, and while they are counted for the first time.
const USES: usize = 64;

/// How often they are counted, each time over as many uses as there were before: what grows with each use grows in every
/// count, also where room is made in advance, twice as much each time.
const COUNTS: u32 = 3;

/// Bytes that a use may hold on to: what C's allocator does with threads is less, the smallest allocation at every fourth
/// use is as much.
const TOLERATED: usize = 8;

fn leaks(subject: &Subject<'_>) -> Verdict {
    // In a thread of its own: what C's allocator keeps at hand for a thread counts as given out until that ends.
    let growth = |uses: usize| {
        let before = allocated();
        let used = std::thread::scope(|scope| scope.spawn(|| (0..uses).try_for_each(|_| in_use(subject))).join());
        used.unwrap_or_else(|_| failed("panics"))?;
        Ok::<usize, Fault>(allocated().saturating_sub(before))
    };
    growth(USES)?;
    let mut least = usize::MAX;
    for count in 0..COUNTS {
        let uses = USES << count;
        least = least.min(growth(uses)? / uses);
        // What a cache takes now and then is not taken in every count.
        if least < TOLERATED {
            return Ok(());
        }
    }
    failed(format!("holds {least} bytes more after each use"))
}
