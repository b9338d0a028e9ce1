//! Memory with a forbidden page on either side: whoever reads or writes past its end stops there and then.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes of a page.
const PAGE: usize = 4096;

/// `len` rounded up to whole pages, at least one.
pub(crate) fn pages(len: usize) -> usize {
    len.max(1).div_ceil(PAGE) * PAGE
}

/// What the memory shows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// Zeros of its own.
    Fresh,
    /// A part of a file, from a multiple of the page size on, shared with whoever else maps it.
    File(BorrowedFd<'a>, usize),
}

/// What may be done with the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing.
    None,
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

/// To which forbidden page the bytes are moved up; between them and the other one lies the rest of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// To the one before.
    Start,
    /// To the one after.
    End,
}

/// Pages of memory between two forbidden ones.
#[derive(Debug)]
pub(crate) struct Guarded {
    base: *mut u8,
    inner: usize,
    offset: usize,
}

// SAFETY: the memory belongs to the value; nothing in it depends on the thread.
unsafe impl Send for Guarded {}

impl Guarded {
    /// `len` bytes of `source`.
    ///
    /// # Errors
    /// The system has no memory left.
    pub(crate) fn new(len: usize, source: Source<'_>, access: Access, side: Side) -> io::Result<Self> {
        let inner = pages(len);
        let none = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the system's choice.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), inner + 2 * PAGE, libc::PROT_NONE, none, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let offset = if side == Side::End { inner - len } else { 0 };
        let guarded = Self { base: base.cast(), inner, offset };
        let (flags, fd, from) = match source {
            Source::Fresh => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0),
            Source::File(fd, from) => (libc::MAP_SHARED, fd.as_raw_fd(), from),
        };
        // SAFETY: replaces pages of the mapping made above, which nobody has seen yet.
        let mapped = unsafe {
            let start = guarded.base.add(PAGE).cast();
            libc::mmap(start, inner, protection(access), flags | libc::MAP_FIXED, fd, from as libc::off_t)
        };
        if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(guarded) }
    }

    /// The first byte.
    pub(crate) fn data(&self) -> *mut u8 {
        // SAFETY: within the mapping.
        unsafe { self.base.add(PAGE + self.offset) }
    }

    /// Changes what may be done with the memory.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn allow(&self, access: Access) -> io::Result<()> {
        // SAFETY: pages of this mapping.
        let status = unsafe { libc::mprotect(self.base.add(PAGE).cast(), self.inner, protection(access)) };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

fn protection(access: Access) -> i32 {
    match access {
        Access::None => libc::PROT_NONE,
        Access::Read => libc::PROT_READ,
        Access::Write => libc::PROT_READ | libc::PROT_WRITE,
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; nobody borrows it any more.
        unsafe { libc::munmap(self.base.cast(), self.inner + 2 * PAGE) };
    }
}
