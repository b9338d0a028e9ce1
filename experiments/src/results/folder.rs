//! The folder of a run: `plan.json`, `machine.json`, the journal `answers.jsonl`, what stands beside them, and
//! `metrics.json` and `memory.json` at the end.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use pressroom::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use super::attempt::Fence;
use super::disk::{Disk, Os, sync_folder_of, write_whole};
use super::identity::differences;
use super::{Key, Machine, Record, line};

/// The journal's name in a run folder.
const JOURNAL: &str = "answers.jsonl";

/// A run folder that this process alone writes to.
pub struct RunFolder {
    path: PathBuf,
    journal: File,
    disk: Box<dyn Disk>,
    finished: Vec<Record>,
    /// What a failed write has left behind is sorted out when the folder is opened again, not before.
    failed: bool,
    /// What ends this process's right to append, if anything does.
    fence: Option<Fence>,
    /// Held as long as the folder is open; the operating system lets go of it however the process ends.
    _lock: File,
}

impl RunFolder {
    /// Opens or makes a run folder. What an interrupted run of the same plan finished is read back; damaged lines and
    /// answers that failed are dropped.
    ///
    /// # Errors
    /// The folder holds another run's results (all that differs is named), another process is at work in it, or it
    /// cannot be written.
    pub fn open(path: &Path, identity: &impl Serialize) -> Result<Self> {
        Self::open_on(path, identity, Box::new(Os))
    }

    fn open_on(path: &Path, identity: &impl Serialize, mut disk: Box<dyn Disk>) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(Error::io(path))?;
        let lock = lock(path)?;
        settle(disk.as_mut(), path, identity)?;
        let journal_path = path.join(JOURNAL);
        let finished = recover(disk.as_mut(), &journal_path)?;
        let journal =
            OpenOptions::new().create(true).append(true).open(&journal_path).map_err(Error::io(&journal_path))?;
        sync_folder_of(disk.as_mut(), &journal_path)?;
        Ok(Self { path: path.to_owned(), journal, disk, finished, failed: false, fence: None, _lock: lock })
    }

    /// The same, as long as `fence` lets it append.
    pub(super) fn fenced(self, fence: Fence) -> Self {
        Self { fence: Some(fence), ..self }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Answers of earlier runs of this plan.
    pub fn finished(&self) -> &[Record] {
        &self.finished
    }

    /// Keys of the answers that need not be computed again: those without an error.
    pub fn finished_keys(&self) -> HashSet<Key> {
        self.finished.iter().map(Record::key).collect()
    }

    /// Appends answers; when this returns they survive a power failure.
    ///
    /// # Errors
    /// The disk is full or the file cannot be written, or another worker took over; what was appended before stays.
    /// Nothing can be appended after.
    pub fn append(&mut self, records: &[Record]) -> Result<()> {
        let path = self.path.join(JOURNAL);
        if self.failed {
            return Err(Error::file(path, "could not be written before; run the same command again"));
        }
        if let Some(fence) = &self.fence {
            fence.check()?;
        }
        let written = self.disk.write(&mut self.journal, lines(&path, records)?.as_bytes());
        written.and_then(|()| self.disk.sync(&self.journal)).map_err(|error| {
            self.failed = true;
            let hint = "the answers written so far are kept, make room and run the same command again";
            Error::file(path, format!("{error}; {hint}"))
        })
    }

    /// Puts answers in the place of all that the journal holds, at once.
    ///
    /// # Errors
    /// The journal cannot be written; it stays as it was.
    pub fn replace(&mut self, records: &[Record]) -> Result<()> {
        let path = self.path.join(JOURNAL);
        write_whole(self.disk.as_mut(), &path, lines(&path, records)?.as_bytes())?;
        self.journal = OpenOptions::new().append(true).open(&path).map_err(Error::io(&path))?;
        Ok(())
    }

    /// Writes a file beside the journal, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, name: &str, content: &[u8]) -> Result<()> {
        write_whole(self.disk.as_mut(), &self.path.join(name), content)
    }

    /// Writes a JSON file beside the journal, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_json(&mut self, name: &str, content: &impl Serialize) -> Result<()> {
        write_json(self.disk.as_mut(), &self.path.join(name), content)
    }
}

/// The answers of a run folder, errors included; the folder stays as it is.
///
/// # Errors
/// There is no journal, or it is another version's.
pub fn read_records(folder: &Path) -> Result<Vec<Record>> {
    let path = folder.join(JOURNAL);
    let journal = std::fs::read(&path).map_err(Error::io(&path))?;
    Ok(records(&path, &journal)?.into_iter().map(|(record, _)| record).collect())
}

/// Keys of the answers that a folder holds, whatever run they are of; none where there is no folder.
///
/// # Errors
/// The journal cannot be read, or is another version's.
pub fn finished_in(folder: &Path) -> Result<HashSet<Key>> {
    let there = folder.join(JOURNAL).exists();
    let all = if there { read_records(folder)? } else { Vec::new() };
    Ok(all.into_iter().filter(|record| record.error.is_none()).map(|record| record.key()).collect())
}

/// Takes the folder for this process.
fn lock(path: &Path) -> Result<File> {
    let path = path.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(Error::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::file(path, "another process is at work in this run folder; wait for it, or end it"))
        }
        Err(TryLockError::Error(error)) => Err(Error::io(path)(error)),
    }
}

/// Makes sure that the folder is this run's: it says so already, or it is new and says so from now on.
fn settle(disk: &mut dyn Disk, folder: &Path, identity: &impl Serialize) -> Result<()> {
    let path = folder.join("plan.json");
    let now = serde_json::to_value(identity).map_err(|error| Error::file(&path, error.to_string()))?;
    let Some(stored) = read_if_there(&path)? else {
        write_json(disk, &folder.join("machine.json"), &Machine::this())?;
        return write_json(disk, &path, &now);
    };
    let stored: Value = serde_json::from_slice(&stored)
        .map_err(|error| Error::file(&path, format!("{error}; restore it, or choose another [run] output")))?;
    refuse_another(folder, &stored, &now)
}

/// Refuses a folder whose stored plan is not the one at hand.
pub(super) fn refuse_another(folder: &Path, stored: &Value, now: &Value) -> Result<()> {
    let differences = differences(stored, now);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::file(
        folder,
        format!(
            "holds results of another run; choose another [run] output or remove the folder. What differs:\n  {}",
            differences.join("\n  ")
        ),
    ))
}

fn write_json(disk: &mut dyn Disk, path: &Path, content: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(content).map_err(|error| Error::file(path, error.to_string()))?;
    text.push('\n');
    write_whole(disk, path, text.as_bytes())
}

/// The journal's lines of some records.
fn lines(path: &Path, records: &[Record]) -> Result<String> {
    let line = |record| serde_json::to_string(record).map(|object| line::seal(&object));
    records.iter().map(line).collect::<Result<String, _>>().map_err(|error| Error::file(path, error.to_string()))
}

/// Error-free records of a journal that an interruption may have cut; the file is brought back to them.
fn recover(disk: &mut dyn Disk, path: &Path) -> Result<Vec<Record>> {
    let Some(journal) = read_if_there(path)? else { return Ok(Vec::new()) };
    let (mut seen, mut finished, mut kept) = (HashSet::new(), Vec::new(), Vec::new());
    for (record, line) in records(path, &journal)? {
        if record.error.is_none() && seen.insert(record.key()) {
            // The line itself is kept, not what it would be written as now.
            kept.extend_from_slice(line);
            kept.push(b'\n');
            finished.push(record);
        }
    }
    if kept != journal {
        tracing::info!(
            "{}: {} bytes of failed or damaged answers dropped",
            path.display(),
            journal.len() - kept.len().min(journal.len())
        );
        write_whole(disk, path, &kept)?;
    }
    Ok(finished)
}

/// The records of a journal with their lines.
fn records<'a>(path: &Path, journal: &'a [u8]) -> Result<Vec<(Record, &'a [u8])>> {
    let read = |line: &'a [u8]| match serde_json::from_slice(line) {
        Ok(record) => Ok((record, line)),
        Err(error) => {
            let shown = String::from_utf8_lossy(&line[..line.len().min(120)]);
            Err(Error::file(path, format!("is no journal of this version: {error} in {shown}")))
        }
    };
    line::whole_lines(journal).into_iter().map(read).collect()
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path)(error)),
    }
}

#[cfg(test)]
mod tests;
