//! The file operations that results stand on; tests put a disk that fails in their place.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pressroom::{Error, Result};

/// What can fail while results are written.
pub trait Disk: Send {
    /// Writes all of `bytes` where `file` stands.
    ///
    /// # Errors
    /// What the operating system says; some of the bytes may have been written.
    fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()>;

    /// Returns when what was written to `file`, or a folder's list of names, survives a power failure.
    ///
    /// # Errors
    /// What the operating system says; what was written may be lost.
    fn sync(&mut self, file: &File) -> io::Result<()>;

    /// Puts a file in the place of another, at once.
    ///
    /// # Errors
    /// What the operating system says; both are as they were.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
}

/// The operating system's.
#[derive(Clone, Copy, Debug)]
pub struct Os;

impl Disk for Os {
    fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }
}

/// Writes a file beside its place and moves it there, so that it is never half there.
pub(super) fn write_whole(disk: &mut dyn Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let mut file = File::create(&partial).map_err(Error::io(&partial))?;
    disk.write(&mut file, bytes).and_then(|()| disk.sync(&file)).map_err(Error::io(&partial))?;
    disk.rename(&partial, path).map_err(Error::io(path))?;
    sync_folder_of(disk, path)
}

/// Makes the name of a new file survive a power failure.
pub(super) fn sync_folder_of(disk: &mut dyn Disk, path: &Path) -> Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    let folder_file = File::open(folder).map_err(Error::io(folder))?;
    disk.sync(&folder_file).map_err(Error::io(folder))
}
