//! CUDA sources, and the constants that make a program of one.

use std::fmt;

use sha2::{Digest, Sha256};
use tch::Kind;

/// A `.cu` file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its path in this crate's `src`, which compile errors name.
    pub(crate) path: &'static str,
    pub(crate) text: &'static str,
}

/// The source at a path in this crate's `src`.
macro_rules! source {
    ($path:literal) => {
        $crate::cuda::Source { path: $path, text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/", $path)) }
    };
}
pub(crate) use source;

/// What every source may include, by these paths.
pub(super) const HEADERS: [Source; 6] = [
    source!("cuda/machine.cuh"),
    source!("cuda/element.cuh"),
    source!("cuda/rows.cuh"),
    source!("attention/span.cuh"),
    source!("cuda/heads.cuh"),
    source!("cuda/tile.cuh"),
];

/// A source with its constants: shapes and dtypes that the compiler is to know.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Program {
    path: &'static str,
    text: &'static str,
    /// Name of the kernel.
    pub(crate) entry: &'static str,
    /// Threads of a block, which the source knows as `THREADS`.
    pub(crate) threads: u32,
    constants: Vec<(&'static str, String)>,
}

impl Program {
    /// The kernel `entry` of a source, in blocks of `threads` threads.
    pub(crate) fn new(source: &Source, entry: &'static str, threads: u32) -> Self {
        let constants = vec![("THREADS", threads.to_string())];
        Self { path: source.path, text: source.text, entry, threads, constants }
    }

    /// The program with one more constant.
    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.constants.push((name, value.to_string()));
        self
    }

    pub(super) fn path(&self) -> &'static str {
        self.path
    }

    pub(super) fn text(&self) -> &'static str {
        self.text
    }

    /// The constants as a compiler's options.
    pub(super) fn definitions(&self) -> Vec<String> {
        self.constants.iter().map(|(name, value)| format!("-D{name}={value}")).collect()
    }

    /// What a compiled program is stored under: all that goes into it, `compiler` included.
    pub(super) fn digest(&self, compiler: &str) -> String {
        let mut hash = Sha256::new();
        let options = self.definitions().join(" ");
        let sources = HEADERS.iter().flat_map(|header| [header.path, header.text]);
        for part in [compiler, &options, self.path, self.text].into_iter().chain(sources) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.definitions().join(" "))
    }
}

/// What sources call a dtype; `None` where they do not know it.
pub(crate) fn element_name(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Float => Some("float"),
        Kind::BFloat16 => Some("bf16"),
        Kind::Half => Some("f16"),
        _ => None,
    }
}
