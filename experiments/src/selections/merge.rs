//! The selections of several run folders in one.

use std::path::Path;

use pressroom::{Error, Result};

use super::FOLDER;
use super::read::files;

/// Puts the files of the run folder `from` into `to`. A name stands for one content; where machines decided differently
/// nevertheless, always the same file is kept, in whatever order folders are merged.
///
/// # Errors
/// A file cannot be read or written.
pub fn merge(from: &Path, to: &Path) -> Result<()> {
    let folder = to.join(FOLDER);
    for source in files(from)? {
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let Some(name) = source.file_name() else { continue };
        let (target, partial) = (folder.join(name), folder.join(name).with_extension("partial"));
        let content = std::fs::read(&source).map_err(Error::io(&source))?;
        if std::fs::read(&target).is_ok_and(|there| there <= content) {
            continue;
        }
        std::fs::write(&partial, content).map_err(Error::io(&partial))?;
        std::fs::rename(&partial, &target).map_err(Error::io(&target))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_repetition_make_no_difference() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let put = |run: &str, name: &str, content: &str| {
            std::fs::create_dir_all(at(run).join(FOLDER)).unwrap();
            std::fs::write(at(run).join(FOLDER).join(name), content).unwrap();
        };
        put("a", "00000-0-1.safetensors", "x");
        put("a", "00001-0-1.safetensors", "late");
        put("b", "00001-0-1.safetensors", "early");
        put("b", "00002-0-1.safetensors", "y");
        put("b", "00003-0-1.partial", "cut");
        for (output, folders) in [("ab", ["a", "b"]), ("ba", ["b", "a"]), ("bab", ["ba", "b"])] {
            folders.iter().for_each(|folder| merge(&at(folder), &at(output)).unwrap());
            let all = files(&at(output)).unwrap();
            let all: Vec<String> = all.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
            assert_eq!(all, ["x", "early", "y"], "{output}");
        }
        merge(&at("nothing"), &at("nowhere")).unwrap();
        assert!(!at("nowhere").exists());
    }
}
