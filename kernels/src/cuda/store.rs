//! Compiled programs on disk, so that each is compiled once per machine.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Bytes of the digest that a stored program starts with.
const DIGEST: usize = 32;

/// The folder of compiled programs, where the environment tells of one.
pub(super) fn folder() -> Option<PathBuf> {
    let named = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))?;
    Some(caches.join("pressroom").join("cuda"))
}

/// What is stored under `name`, or what `make` makes, which is then stored. What is damaged is made again, and where
/// nothing can be stored, nothing is.
///
/// # Errors
/// Those of `make`.
pub(super) fn stored<E>(
    folder: Option<&Path>,
    name: &str,
    make: impl FnOnce() -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let path = folder.map(|folder| folder.join(name));
    if let Some(code) = path.as_deref().and_then(read) {
        return Ok(code);
    }
    let code = make()?;
    if let Some(path) = path {
        // A program that is compiled again next time is slow, not wrong.
        let _ = write(&path, &code);
    }
    Ok(code)
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut stored = std::fs::read(path).ok()?;
    let code = stored.split_off(DIGEST.min(stored.len()));
    (Sha256::digest(&code).as_slice() == stored).then_some(code)
}

/// Whole or not at all: another process may be reading.
fn write(path: &Path, code: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let partial = path.with_extension(std::process::id().to_string());
    std::fs::write(&partial, [Sha256::digest(code).as_slice(), code].concat())?;
    std::fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(folder: Option<&Path>, made: &str) -> String {
        let code = stored(folder, "program", || Ok::<_, ()>(made.as_bytes().to_vec())).unwrap();
        String::from_utf8(code).unwrap()
    }

    #[test]
    fn a_program_is_made_once_and_again_when_it_is_damaged() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("not/there/yet");
        assert_eq!(get(Some(&folder), "first"), "first");
        assert_eq!(get(Some(&folder), "second"), "first");
        for damage in ["", "short", "longer than a digest is, and no digest of what follows"] {
            std::fs::write(folder.join("program"), damage).unwrap();
            assert_eq!(get(Some(&folder), "again"), "again");
            assert_eq!(get(Some(&folder), "second"), "again");
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn where_nothing_can_be_stored_programs_are_made_each_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for folder in [None, Some(file.path())] {
            assert_eq!(get(folder, "first"), "first");
            assert_eq!(get(folder, "second"), "second");
        }
        assert_eq!(stored(None, "program", || Err("no compiler")), Err("no compiler"));
    }
}
