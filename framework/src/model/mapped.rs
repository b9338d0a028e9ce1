//! Weight files in memory: the framework's one module with `unsafe`.
//!
//! A mapped file that shrinks makes the next access raise SIGBUS. The guard installed here turns that
//! into a message and an orderly exit code.

use std::fs::File;
use std::os::raw::c_int;
use std::path::Path;
use std::sync::Once;

use memmap2::{Mmap, UncheckedAdvice};

use crate::error::{Error, Result};

/// A file mapped read-only.
#[derive(Debug)]
pub(super) struct MappedFile(Mmap);

impl MappedFile {
    /// Maps the whole of `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        guard_mapped_files();
        let file = File::open(path).map_err(Error::io(path))?;
        // SAFETY: the mapping is read-only and private to this value. Another process may change the
        // file's bytes; every reader treats them as untrusted plain data, and a shrunk file ends in the
        // guard's message. No reference outlives `self`.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
        Ok(Self(map))
    }

    /// The file's bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Says that `part` of [`Self::bytes`] is not needed any more: it stops counting as memory of this process.
    pub(super) fn release(&self, part: &[u8]) {
        let offset = (part.as_ptr() as usize).wrapping_sub(self.0.as_ptr() as usize);
        if offset.checked_add(part.len()).is_some_and(|end| end <= self.0.len()) {
            // SAFETY: nothing is written to the mapping, so dropped pages are read from the file again when they are
            // looked at. A refusal leaves everything as it was, and memory in use.
            let _ = unsafe { self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, part.len()) };
        }
    }
}

const MESSAGE: &[u8] = b"error: a file that was being read from memory became shorter or unreadable (SIGBUS)\n\
    = help: leave the model's weight files alone while they are loading, then run again\n";

/// Makes a weight file that shrinks while mapped end the process with a message and exit code 1.
fn guard_mapped_files() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler is async-signal-safe (write and _exit only) and the struct is fully
        // initialised; replacing the default action of SIGBUS, which kills the process, loses nothing.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_bus_error as *const () as usize;
            libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
        }
    });
}

extern "C" fn on_bus_error(_signal: c_int) {
    // SAFETY: write(2) and _exit(2) are async-signal-safe, and the buffer is static.
    unsafe {
        libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len());
        libc::_exit(1)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::process::Command;

    use super::*;

    #[test]
    fn what_was_released_can_be_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, vec![7; 3 << 16]).unwrap();
        let map = MappedFile::open(&path).unwrap();
        map.release(&map.bytes()[100..2 << 16]);
        map.release(&[7; 5]);
        assert!(map.bytes().iter().all(|byte| *byte == 7));
    }

    /// Names the file to the child process of the test.
    const FILE: &str = "PRESSROOM_TEST_SHRINKING_FILE";

    #[test]
    fn a_file_that_shrinks_while_it_is_mapped_ends_in_a_message() {
        if let Some(path) = std::env::var_os(FILE) {
            let path = Path::new(&path);
            let map = MappedFile::open(path).unwrap();
            assert_eq!(map.bytes()[0], 7);
            OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
            panic!("the file is gone, and byte {} was read all the same", map.bytes()[map.bytes().len() - 1]);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let name = format!("{}::a_file_that_shrinks_while_it_is_mapped_ends_in_a_message", module_path!());
        let name = name.strip_prefix("pressroom::").unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.args([name, "--exact", "--nocapture"]).env(FILE, &path).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        // The test harness would end with 101 after a panic, and a signal leaves no code at all.
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("became shorter") && stderr.contains("= help:"), "{stderr}");
    }
}
