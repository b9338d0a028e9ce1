//! Attempts at a part of a run, each in a folder that nobody else writes to.
//!
//! `shard-I-of-N/ATTEMPT/` of the run folder is a run folder of its own, with a journal of its own. Starting to work on
//! a part makes the next attempt's folder, which only one worker can, and from then on every earlier worker of the part
//! is fenced: it finds a later attempt before it appends and stops. What it wrote before is as good as any answer. A
//! worker that was taken for dead and goes on does no harm, however late it comes to know, without clocks, leases or
//! locks between machines.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::folder::{RunFolder, finished_in, refuse_another};
use super::merge::plan;
use super::{Identity, Key};
use pressroom::{Error, Result};

/// What the names of parts' folders begin with.
const PART: &str = "shard-";

/// An attempt's right to append: it ends when a later attempt begins.
pub struct Fence {
    part: PathBuf,
    attempt: u64,
}

impl Fence {
    /// Makes the next attempt's folder.
    fn next(part: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&part).map_err(Error::io(&part))?;
        let mut attempt = latest(&part)? + 1;
        loop {
            let fence = Self { part: part.clone(), attempt };
            match std::fs::create_dir(fence.folder()) {
                Ok(()) => return Ok(fence),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => attempt += 1,
                Err(error) => return Err(Error::io(&part)(error)),
            }
        }
    }

    fn folder(&self) -> PathBuf {
        self.part.join(self.attempt.to_string())
    }

    /// Whether this is still the latest attempt.
    ///
    /// # Errors
    /// It is not, or that cannot be told.
    pub fn check(&self) -> Result<()> {
        if latest(&self.part)? == self.attempt {
            return Ok(());
        }
        Err(Error::file(self.folder(), "another worker has taken over this part of the run; this one stops"))
    }
}

/// The number of a part's latest attempt; 0 before the first.
fn latest(part: &Path) -> Result<u64> {
    let names = names(part)?;
    Ok(names.iter().filter_map(|name| name.file_name()?.to_str()?.parse().ok()).max().unwrap_or(0))
}

/// Takes the part called `part` of the run in `run` over from whoever had it.
///
/// # Errors
/// Another part is of another run (all that differs is named), or the folder cannot be written.
pub fn open_attempt(run: &Path, part: &str, identity: &Identity) -> Result<RunFolder> {
    let now = serde_json::to_value(identity).map_err(|error| Error::file(run, error.to_string()))?;
    for attempt in attempts(run)? {
        refuse_another(&attempt, &plan(&attempt)?, &now)?;
    }
    let fence = Fence::next(run.join(format!("{PART}{part}")))?;
    Ok(RunFolder::open(&fence.folder(), identity)?.fenced(fence))
}

/// Folders of all attempts at parts of a run.
///
/// # Errors
/// A folder cannot be read.
pub fn attempts(run: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for part in names(run)? {
        if part.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PART)) {
            // One that was killed before it said what run it is of has done nothing.
            all.extend(names(&part)?.into_iter().filter(|attempt| attempt.join("plan.json").exists()));
        }
    }
    Ok(all)
}

/// Keys of the answers that the run folder and all attempts at its parts hold.
///
/// # Errors
/// A journal cannot be read.
pub fn finished_anywhere(run: &Path) -> Result<HashSet<Key>> {
    let mut keys = finished_in(run)?;
    for attempt in attempts(run)? {
        keys.extend(finished_in(&attempt)?);
    }
    Ok(keys)
}

/// What is in a folder, in the order of names; nothing where there is no folder.
fn names(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(folder)(error)),
    };
    let paths: std::io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(Error::io(folder))?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_attempt_fences_the_earlier_ones() {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("0-of-2");
        let first = Fence::next(part.clone()).unwrap();
        first.check().unwrap();
        let second = Fence::next(part.clone()).unwrap();
        assert!(first.check().unwrap_err().to_string().contains("taken over"));
        second.check().unwrap();
        // Workers that begin at once get attempts of their own, and one of them is the latest.
        let part = &part;
        let fences: Vec<Fence> = std::thread::scope(|scope| {
            let begin = || scope.spawn(move || Fence::next(part.clone()).unwrap());
            let threads: Vec<_> = (0..8).map(|_| begin()).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut attempts: Vec<u64> = fences.iter().map(|fence| fence.attempt).collect();
        attempts.sort_unstable();
        assert_eq!(attempts, (3..11).collect::<Vec<_>>());
        assert_eq!(fences.iter().filter(|fence| fence.check().is_ok()).count(), 1);
    }
}
