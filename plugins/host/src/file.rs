//! A library as a file: what it is, before any of its code runs.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{Architecture, Endianness, Object, ObjectKind, ObjectSection, ObjectSymbol, SymbolKind};
use pressroom_plugin_abi::{Growing, PRESSROOM_ABI_VERSION, PRESSROOM_MAGIC, PressroomEntry};
use sha2::{Digest, Sha256};

use crate::refusal::{Reason, Refusal};

/// Bytes of a `PressroomEntry` before its function pointers.
const HEADER: usize = core::mem::offset_of!(PressroomEntry, open);

/// Largest file that is taken for a library.
const MOST_BYTES: u64 = 4 << 30;

/// A plugin's library, read and found fit to be loaded.
#[derive(Debug)]
pub struct LibraryFile {
    /// As the user gave it.
    pub path: PathBuf,
    /// The open file, so that what is loaded is what was hashed.
    pub file: File,
    /// SHA-256 of its bytes, 64 hexadecimal digits.
    pub sha256: String,
    /// What the entry says about itself.
    pub header: Header,
}

/// The part of a `PressroomEntry` that is plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Interface version that the plugin was built with.
    pub abi_version: u32,
    /// Lowest one that it works with.
    pub min_abi_version: u32,
    /// Number of presses.
    pub press_count: u32,
    /// What built it.
    pub build: String,
}

impl LibraryFile {
    /// Reads the library at `path`, whose hash is `sha256` if one is given.
    ///
    /// # Errors
    /// Everything that can be wrong with a plugin before it runs.
    pub fn open(path: &Path, sha256: Option<&str>) -> Result<Self, Refusal> {
        Self::read(path, sha256).map_err(|reason| Refusal { path: path.to_owned(), reason })
    }

    fn read(path: &Path, sha256: Option<&str>) -> Result<Self, Reason> {
        // A pipe that nobody writes to would otherwise be waited for.
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let mut file = opened.map_err(Reason::Unreadable)?;
        let metadata = file.metadata().map_err(Reason::Unreadable)?;
        if !metadata.is_file() {
            return Err(Reason::NoLibrary("not a file".into()));
        }
        if metadata.len() > MOST_BYTES {
            return Err(Reason::NoLibrary(format!("a file of {} bytes", metadata.len())));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Reason::Unreadable)?;
        let found = format!("{:x}", Sha256::digest(&bytes));
        if let Some(expected) = sha256.filter(|expected| !expected.eq_ignore_ascii_case(&found)) {
            return Err(Reason::Hash { expected: expected.to_owned(), found });
        }
        Ok(Self { path: path.to_owned(), file, sha256: found, header: header(&bytes)? })
    }

    /// The interface version that host and plugin both know.
    pub fn agreed_version(&self) -> u32 {
        self.header.abi_version.min(PRESSROOM_ABI_VERSION)
    }
}

/// The plain data of the library's entry.
fn header(bytes: &[u8]) -> Result<Header, Reason> {
    let architecture = object::File::parse(bytes).map_err(|error| Reason::NoLibrary(error.to_string()))?.architecture();
    let expected = if cfg!(target_arch = "x86_64") { Architecture::X86_64 } else { Architecture::Aarch64 };
    if architecture != expected {
        let name = |architecture| format!("{architecture:?}");
        return Err(Reason::Architecture { expected: name(expected), found: name(architecture) });
    }
    let elf = ElfFile64::<Endianness>::parse(bytes).map_err(|error| Reason::NoLibrary(error.to_string()))?;
    if elf.kind() != ObjectKind::Dynamic {
        return Err(Reason::NoLibrary(format!("a file of kind {:?}", elf.kind())));
    }
    let entry = entry_bytes(&elf)?;
    parse(entry)
}

/// The bytes of the exported entry, to the end of its section.
fn entry_bytes<'a>(elf: &ElfFile64<'a, Endianness>) -> Result<&'a [u8], Reason> {
    let mut other = None;
    let mut found = None;
    for symbol in elf.dynamic_symbols().filter(|symbol| symbol.is_definition()) {
        match symbol.name() {
            Ok("pressroom_plugin_v1") => found = Some(symbol),
            Ok(name) => other = other.or_else(|| name.strip_prefix("pressroom_plugin_v").map(str::to_owned)),
            Err(_) => {}
        }
    }
    let symbol = found.ok_or_else(|| other.map_or(Reason::NoEntry, Reason::OtherMajor))?;
    if symbol.kind() == SymbolKind::Text {
        return Err(Reason::BadEntry("it is a function, not constant data".into()));
    }
    let no_data = || Reason::BadEntry("it is not constant data".into());
    let section = symbol.section_index().and_then(|index| elf.section_by_index(index).ok()).ok_or_else(no_data)?;
    let data = section.data().map_err(|_| no_data())?;
    let offset = symbol.address().checked_sub(section.address()).and_then(|offset| usize::try_from(offset).ok());
    offset.and_then(|offset| data.get(offset..)).ok_or_else(no_data)
}

/// Reads the header and refuses what this host cannot work with.
fn parse(entry: &[u8]) -> Result<Header, Reason> {
    let number = |at: usize| {
        let bytes = entry.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_ne_bytes).ok_or_else(|| Reason::BadEntry("it ends too early".into()))
    };
    let magic = (u64::from(number(4)?) << 32) | u64::from(number(0)?);
    if magic != PRESSROOM_MAGIC {
        return Err(Reason::BadEntry(format!("its magic is {magic:#018x}, not {PRESSROOM_MAGIC:#018x}")));
    }
    let size = number(8)? as usize;
    if size < PressroomEntry::SMALLEST || size > entry.len() {
        return Err(Reason::BadEntry(format!("its size is {size}, at least {} is due", PressroomEntry::SMALLEST)));
    }
    let (abi_version, min_abi_version, press_count) = (number(12)?, number(16)?, number(20)?);
    if min_abi_version > PRESSROOM_ABI_VERSION {
        return Err(Reason::TooNew(min_abi_version));
    }
    if abi_version == 0 || min_abi_version == 0 || min_abi_version > abi_version {
        let text = format!("its versions make no sense: built with 1.{abi_version}, works from 1.{min_abi_version}");
        return Err(Reason::BadEntry(text));
    }
    if press_count == 0 {
        return Err(Reason::BadEntry("it offers no press".into()));
    }
    let build = &entry[24..HEADER];
    let end = build.iter().position(|byte| *byte == 0).unwrap_or(build.len());
    let build = String::from_utf8_lossy(&build[..end]).into_owned();
    Ok(Header { abi_version, min_abi_version, press_count, build })
}
