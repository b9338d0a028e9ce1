//! Checks of a library as a whole.

use std::path::Path;

use super::{Fault, LibraryCheck, Verdict, failed, manners};
use crate::describe::Description;
use crate::file::LibraryFile;
use crate::library::Library;
use crate::refusal::{Reason, Refusal};

pub(super) const CHECKS: &[LibraryCheck] = &[
    LibraryCheck { name: "file", says: "is a shared library for this machine", run: file },
    LibraryCheck { name: "entry", says: "exports `pressroom_plugin_v1`", run: entry },
    LibraryCheck { name: "entry-fields", says: "states magic, size and versions that make sense", run: entry_fields },
    LibraryCheck { name: "build-text", says: "says what built it", run: build_text },
    LibraryCheck { name: "loads", says: "is accepted by the system's loader", run: loads },
    LibraryCheck { name: "opens", says: "starts", run: opens },
    LibraryCheck { name: "describes", says: "describes each of its presses as the interface asks", run: describes },
    LibraryCheck {
        name: "loads-quietly",
        says: "writes nothing to standard output when it is loaded",
        run: loads_quietly,
    },
];

/// Loads the library.
pub(super) fn load(path: &Path) -> Result<Library, Refusal> {
    LibraryFile::open(path, None).and_then(Library::load)
}

/// What its presses say about themselves; none where it cannot be loaded.
pub(super) fn descriptions(path: &Path) -> Vec<Description> {
    let presses = |library: Library| library.presses().iter().map(|press| press.description.clone()).collect();
    load(path).map(presses).unwrap_or_default()
}

/// Fails if the file is refused for a reason that `belongs` here; other checks tell the others.
fn refused(path: &Path, belongs: fn(&Reason) -> bool) -> Verdict {
    match LibraryFile::open(path, None) {
        Err(refusal) if belongs(&refusal.reason) => failed(refusal.reason.to_string()),
        _ => Ok(()),
    }
}

fn file(path: &Path) -> Verdict {
    refused(path, |reason| matches!(reason, Reason::Unreadable(_) | Reason::NoLibrary(_) | Reason::Architecture { .. }))
}

fn entry(path: &Path) -> Verdict {
    refused(path, |reason| matches!(reason, Reason::NoEntry | Reason::OtherMajor(_)))
}

fn entry_fields(path: &Path) -> Verdict {
    refused(path, |reason| matches!(reason, Reason::BadEntry(_) | Reason::TooNew(_)))
}

fn build_text(path: &Path) -> Verdict {
    let build = LibraryFile::open(path, None)?.header.build;
    if build.trim().is_empty() || build.contains(char::REPLACEMENT_CHARACTER) {
        return Err(Fault::Warning("its build text is empty, or no UTF-8".into()));
    }
    Ok(())
}

fn loads(path: &Path) -> Verdict {
    match load(path) {
        Err(Refusal { reason: reason @ (Reason::Loader(_) | Reason::BadEntry(_) | Reason::NoEntry), .. }) => {
            failed(reason.to_string())
        }
        _ => Ok(()),
    }
}

fn opens(path: &Path) -> Verdict {
    match load(path) {
        Err(Refusal { reason: reason @ Reason::Open(_), .. }) => failed(reason.to_string()),
        _ => Ok(()),
    }
}

fn describes(path: &Path) -> Verdict {
    load(path)?;
    Ok(())
}

fn loads_quietly(path: &Path) -> Verdict {
    load(path)?;
    manners::is_quiet(1)
}
