//! A copy of this process in which a check runs, with limits, and whose end is told.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Fault, Verdict};
use crate::describe::Description;
use crate::isolation::ending;

/// How much a check may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Seconds.
    pub seconds: u64,
    /// MiB of memory beside what the process has.
    pub memory_mib: u64,
}

/// How often the copy is looked after.
const GLANCE: Duration = Duration::from_micros(500);

/// What a copy hands back.
pub(crate) trait Report: Sized {
    fn write(self) -> impl Serialize;
    fn read(text: &[u8]) -> Option<Self>;
}

impl Report for Vec<Description> {
    fn write(self) -> impl Serialize {
        self
    }

    fn read(text: &[u8]) -> Option<Self> {
        from_json(text)
    }
}

impl Report for Verdict {
    fn write(self) -> impl Serialize {
        match self {
            Ok(()) => ("ok", String::new()),
            Err(Fault::Failed(text)) => ("failed", text),
            Err(Fault::Warning(text)) => ("warning", text),
            Err(Fault::Skipped(text)) => ("skipped", text),
        }
    }

    fn read(text: &[u8]) -> Option<Self> {
        let (kind, text): (String, String) = from_json(text)?;
        Some(match kind.as_str() {
            "ok" => Ok(()),
            "warning" => Err(Fault::Warning(text)),
            "skipped" => Err(Fault::Skipped(text)),
            _ => Err(Fault::Failed(text)),
        })
    }
}

fn from_json<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    serde_json::from_slice(text).ok()
}

/// Runs `work` in a copy of this process; the inner error is how the copy ended instead of answering.
///
/// # Errors
/// This process has several threads (a copy would have one of them only), or the system makes no more processes.
pub(crate) fn apart<T: Report>(limits: &Limits, work: impl FnOnce() -> T) -> io::Result<Result<T, String>> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("checks need a process with one thread"));
    }
    let (mut result, output, mut noise) = (unnamed()?, unnamed()?, unnamed()?);
    // SAFETY: the process has one thread, so the copy is complete.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let copy = std::process::id();
            let told = prepare(limits, &output, &noise).and_then(|()| {
                let text = serde_json::to_vec(&work().write())?;
                // A copy that the plugin has made of the copy has nothing to tell.
                if std::process::id() == copy { result.write_all(&text) } else { Ok(()) }
            });
            // SAFETY: ends the copy without running what this process or a plugin has registered for its exit.
            unsafe { libc::_exit(i32::from(told.is_err())) }
        }
        child => {
            let ended = wait(child, Duration::from_secs(limits.seconds))?;
            let Some(status) = ended else { return Ok(Err(format!("took longer than {} s", limits.seconds))) };
            let text = contents(&mut result)?;
            if status.success()
                && let Some(report) = T::read(&text)
            {
                return Ok(Ok(report));
            }
            let noise = contents(&mut noise)?;
            let noise = String::from_utf8_lossy(&noise);
            let last = noise.lines().rfind(|line| !line.trim().is_empty() && !line.contains("RUST_BACKTRACE"));
            Ok(Err(match last {
                Some(line) => format!("the process {}; it wrote {line:?}", ending(status)),
                None => format!("the process {}", ending(status)),
            }))
        }
    }
}

/// A file in memory.
fn unnamed() -> io::Result<File> {
    // SAFETY: makes a new file from a constant name.
    let fd = unsafe { libc::memfd_create(c"pressroom-check".as_ptr(), 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { File::from_raw_fd(fd) })
}

fn contents(file: &mut File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut text)?;
    Ok(text)
}

/// In the copy: a group of its own, outputs into files, limits.
fn prepare(limits: &Limits, output: &File, noise: &File) -> io::Result<()> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let held: u64 = statm.split(' ').next().and_then(|pages| pages.parse().ok()).unwrap_or(0);
    let most = (held * 4096).saturating_add(limits.memory_mib << 20);
    // SAFETY: settings of this process, from values that live for the calls.
    let done = unsafe {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        let memory = libc::rlimit { rlim_cur: most, rlim_max: most };
        libc::setpgid(0, 0) == 0
            && libc::dup2(output.as_raw_fd(), 1) == 1
            && libc::dup2(noise.as_raw_fd(), 2) == 2
            && libc::setrlimit(libc::RLIMIT_CORE, &none) == 0
            && libc::setrlimit(libc::RLIMIT_AS, &memory) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for a copy, ends it after `limit`, and ends what it has left behind; `None` if it took too long.
fn wait(child: libc::pid_t, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    let mut late = false;
    loop {
        let mut status = 0;
        // SAFETY: waits for the child that `apart` has made.
        match unsafe { libc::waitpid(child, &mut status, if late { 0 } else { libc::WNOHANG }) } {
            0 if Instant::now() > deadline => {
                late = true;
                end_group(child);
            }
            0 => std::thread::sleep(GLANCE),
            ended if ended == child => {
                end_group(child);
                return Ok((!late).then(|| ExitStatus::from_raw(status)));
            }
            _ => return Err(io::Error::last_os_error()),
        }
    }
}

fn end_group(child: libc::pid_t) {
    // SAFETY: signals to the copy, and to the group that it leads; at worst there are none any more.
    unsafe {
        libc::kill(-child, libc::SIGKILL);
        libc::kill(child, libc::SIGKILL);
    }
}
