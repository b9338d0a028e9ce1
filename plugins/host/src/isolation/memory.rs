//! The memory that host and child share: one file without a name.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};

use pressroom_kernels::threads;
use serde::{Deserialize, Serialize};

use crate::layer::Lent;
use crate::memory::{Access, Guarded, Side, Source, pages};

/// A part of the file: whole pages, of which the last `len` bytes are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Segment {
    /// Offset in the file, a multiple of the page size.
    pub(super) offset: usize,
    /// Bytes used.
    pub(super) len: usize,
}

impl Segment {
    /// The segment after `self`, of `len` bytes.
    pub(super) fn next(self, len: usize) -> Self {
        Self { offset: self.end(), len }
    }

    fn end(self) -> usize {
        self.offset + pages(self.len)
    }

    /// Maps the segment between two forbidden pages.
    pub(super) fn map(self, file: &File, access: Access) -> io::Result<Guarded> {
        Guarded::new(self.len, Source::File(file.as_fd(), self.offset), access, Side::End)
    }
}

/// The host's side: the file, and all of it in view.
#[derive(Debug)]
pub(super) struct Arena {
    file: File,
    view: Option<(usize, Guarded)>,
}

impl Arena {
    /// An empty file in memory.
    pub(super) fn new() -> io::Result<Self> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: makes a new file from a constant name.
        let fd = unsafe { libc::memfd_create(c"pressroom-plugin".as_ptr(), flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let file = unsafe { File::from_raw_fd(fd) };
        // The child could cut the file short, and this process would end when it reads what is gone.
        // SAFETY: a flag of the descriptor.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { file, view: None })
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Makes room to the end of `last`.
    pub(super) fn reserve(&mut self, last: Segment) -> io::Result<()> {
        let end = last.end();
        if self.view.as_ref().is_some_and(|(len, _)| *len >= end) {
            return Ok(());
        }
        self.file.set_len(end as u64)?;
        self.view = Some((end, Segment { offset: 0, len: end }.map(&self.file, Access::Write)?));
        Ok(())
    }

    /// Copies a tensor's memory to `at` bytes from the start of the used part of `segment`.
    pub(super) fn put(&mut self, segment: Segment, at: usize, lent: &Lent) {
        let len = lent.layout().byte_len();
        // SAFETY: `place` is in the file's view with room for `len` bytes, as `reserve` has seen to; the tensor has as
        // many, and lies elsewhere.
        unsafe { copy(lent.data().cast(), self.place(segment, at, len), len) }
    }

    /// Copies what is in `segment` to a tensor's memory.
    pub(super) fn take(&self, segment: Segment, lent: &Lent) {
        let len = lent.layout().byte_len();
        // SAFETY: as in `put`, the other way.
        unsafe { copy(self.place(segment, 0, len), lent.data().cast(), len) }
    }

    fn place(&self, segment: Segment, at: usize, len: usize) -> *mut u8 {
        let start = segment.end() - segment.len + at;
        match &self.view {
            // SAFETY: within the view.
            Some((view, guarded)) if start + len <= *view => unsafe { guarded.data().add(start) },
            // `reserve` comes first; without it nothing fits, and nothing is copied.
            _ => std::ptr::NonNull::dangling().as_ptr(),
        }
    }
}

/// Bytes that a thread copies at a time: fewer are copied sooner than threads start.
const CHUNK: usize = 1 << 18;

/// Copies `len` bytes, on all threads where they are many.
///
/// # Safety
/// As [`std::ptr::copy_nonoverlapping`].
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    let (from, to) = (from.expose_provenance(), to.expose_provenance());
    threads::for_each(len.div_ceil(CHUNK), |chunk| {
        let start = chunk * CHUNK;
        let (from, to) =
            (std::ptr::with_exposed_provenance::<u8>(from + start), std::ptr::with_exposed_provenance_mut(to + start));
        // SAFETY: the caller's promise, of a part that no other thread has.
        unsafe { std::ptr::copy_nonoverlapping(from, to, CHUNK.min(len - start)) }
    });
}
