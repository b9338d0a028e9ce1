//! Loading a library: from the file that was read, once, for good.

use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};
use pressroom_plugin_abi::{
    Growing, PRESSROOM_ENTRY_SYMBOL, PRESSROOM_PREPARE, PressroomEntry, PressroomPrepare, PressroomPress,
    PressroomText, read,
};

use crate::call::{calling, text};
use crate::describe::Description;
use crate::file::LibraryFile;
use crate::offer::host;
use crate::refusal::{Reason, Refusal};

/// A library in this process. It is never unloaded: its text and functions stay where they are.
#[derive(Debug)]
pub struct Library {
    presses: Vec<LoadedPress>,
}

/// A press of a loaded library.
#[derive(Clone, Debug)]
pub struct LoadedPress {
    pub(crate) table: PressroomPress,
    /// Its extension `PRESSROOM_PREPARE`, if it has it.
    pub(crate) prepare: Option<PressroomPrepare>,
    /// What it says about itself.
    pub description: Description,
}

// SAFETY: the table's pointers lead to constants and functions that stay until the process ends, which the interface
// lets any thread read and call.
unsafe impl Send for LoadedPress {}
// SAFETY: as above.
unsafe impl Sync for LoadedPress {}

/// The libraries of this process.
static LOADED: Mutex<Vec<Loaded>> = Mutex::new(Vec::new());

struct Loaded {
    /// Device and number of the file.
    place: (u64, u64),
    sha256: String,
    presses: Vec<LoadedPress>,
}

impl Library {
    /// Loads the library that `file` is, starts it and reads the descriptions of its presses. One that is loaded already
    /// is the one that is there.
    ///
    /// # Errors
    /// The loader or the plugin refuses, a description is wrong, or the file was overwritten since it was loaded.
    pub fn load(file: LibraryFile) -> Result<Self, Refusal> {
        let path = file.path.clone();
        once(file).map(|presses| Self { presses }).map_err(|reason| Refusal { path, reason })
    }

    /// Its presses.
    pub fn presses(&self) -> &[LoadedPress] {
        &self.presses
    }
}

fn once(file: LibraryFile) -> Result<Vec<LoadedPress>, Reason> {
    let metadata = file.file.metadata().map_err(Reason::Unreadable)?;
    let place = (metadata.dev(), metadata.ino());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    match loaded.iter().find(|known| known.place == place) {
        Some(known) if known.sha256 == file.sha256 => Ok(known.presses.clone()),
        Some(_) => Err(Reason::Overwritten),
        None => {
            let sha256 = file.sha256.clone();
            let presses = load(file)?;
            loaded.push(Loaded { place, sha256, presses: presses.clone() });
            Ok(presses)
        }
    }
}

fn load(file: LibraryFile) -> Result<Vec<LoadedPress>, Reason> {
    let agreed = file.agreed_version();
    let count = file.header.press_count;
    // The very file that was hashed, whatever is at its path by now.
    let opened = format!("/proc/self/fd/{}", file.file.as_raw_fd());
    // SAFETY: loading runs the library's constructors, which is what naming a plugin asks for.
    let handle = unsafe { Handle::open(Some(&opened), RTLD_NOW | RTLD_LOCAL) };
    let handle = handle.map_err(|error| {
        let told = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        Reason::Loader(told.replace(&opened, &file.path.display().to_string()))
    })?;
    // The loader knows libraries by name: this one must not be given to another file. And libraries stay.
    std::mem::forget(file.file);
    // SAFETY: the file exports the symbol as data of at least the smallest size, which `LibraryFile` has checked.
    let entry = unsafe {
        let symbol = handle.get::<*const PressroomEntry>(PRESSROOM_ENTRY_SYMBOL.to_bytes_with_nul());
        symbol.ok().and_then(|symbol| read(*symbol))
    };
    std::mem::forget(handle);
    let entry = entry.ok_or(Reason::NoEntry)?;
    let (Some(open), Some(press)) = (entry.open, entry.press) else {
        return Err(Reason::BadEntry("`open` or `press` is null".into()));
    };
    // SAFETY: the entry's functions are called as the interface says: `open` first, from one thread.
    calling(|call| unsafe { open(host(agreed), call) }).map_err(|failure| Reason::Open(failure.text))?;
    let mut presses: Vec<LoadedPress> = Vec::new();
    for index in 0..count {
        let blame = |problem: String| Reason::Press { index, problem };
        // SAFETY: after `open`, with an index below the number of presses.
        let table = unsafe { read(press(index)) }.ok_or_else(|| blame("has no description".into()))?;
        // SAFETY: the texts of a press's table are constant.
        let texts = unsafe { [text(table.name), text(table.doc), text(table.params)] };
        let [name, doc, params] = texts.map(|text| text.map_err(|problem| blame(format!("gives {problem}"))));
        let description = Description { kind: table.kind, name: name?, doc: doc?, params: params? };
        description.check(&table).map_err(blame)?;
        if presses.iter().any(|known| known.description.name == description.name) {
            return Err(blame(format!("is the second one called `{}`", description.name)));
        }
        // SAFETY: the name is that of the struct.
        let prepare = unsafe { extension::<PressroomPrepare>(&table, PRESSROOM_PREPARE) }.map_err(blame)?;
        if prepare.is_some_and(|extension| extension.prepare.is_none()) {
            return Err(blame(format!("has the extension {PRESSROOM_PREPARE} without its `prepare`")));
        }
        presses.push(LoadedPress { table, prepare, description });
    }
    Ok(presses)
}

/// The press's extension called `id`, if it has it.
///
/// # Safety
/// `T` is the struct that the interface knows under this name, and the library has been opened.
unsafe fn extension<T: Growing>(table: &PressroomPress, id: &str) -> Result<Option<T>, String> {
    let Some(find) = table.extension else { return Ok(None) };
    // SAFETY: called as the interface says; the name lives for the call.
    let found = unsafe { find(PressroomText::new(id)) }.cast::<T>();
    if found.is_null() {
        return Ok(None);
    }
    // SAFETY: what the press gives for this name lives until the process ends and is of the size that it states.
    unsafe { read(found) }.map(Some).ok_or_else(|| format!("has an extension {id} that is too short"))
}
