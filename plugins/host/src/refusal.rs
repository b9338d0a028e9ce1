//! Why a library is not loaded.

use std::path::PathBuf;

use pressroom_plugin_abi::PRESSROOM_ABI_VERSION;

/// A library that cannot be used, why, and how to mend it.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Refusal {
    /// The library.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a library.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(std::io::Error),
    /// The file has another hash than the one asked for.
    #[error("its SHA-256 is {found}, not {expected}; if the plugin was built again, write the new one")]
    Hash {
        /// What was asked for.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// The file is no shared library.
    #[error("is no shared library ({0}); build it with crate-type = [\"cdylib\"], or cc -shared")]
    NoLibrary(String),
    /// The library is for another machine.
    #[error("is built for {found}, this is {expected}; build it again here")]
    Architecture {
        /// This machine.
        expected: String,
        /// The library's.
        found: String,
    },
    /// The library exports no plugin.
    #[error("exports no `pressroom_plugin_v1`; is it a press plugin, and does it say `export!`?")]
    NoEntry,
    /// The library is a plugin of another major version of the interface.
    #[error("is a plugin of interface version {0}, this host has 1; build it with an SDK of this version")]
    OtherMajor(String),
    /// What the library exports is no plugin entry.
    #[error("exports a `pressroom_plugin_v1` that is none: {0}; build it with the SDK, or fill PressroomEntry in")]
    BadEntry(String),
    /// The plugin needs a newer host.
    #[error("needs a host of interface version 1.{0}, this one has 1.{PRESSROOM_ABI_VERSION}; update Pressroom")]
    TooNew(u32),
    /// The system's loader refuses the library, because another one is missing for instance.
    #[error("cannot be loaded: {0}")]
    Loader(String),
    /// The file was written over since this process has loaded it.
    #[error("was overwritten since it was loaded; build to a new file, or start Pressroom again")]
    Overwritten,
    /// The plugin itself refuses to start.
    #[error("does not start: {0}")]
    Open(String),
    /// A press of the library is described wrongly.
    #[error("press {index}: {problem}")]
    Press {
        /// Its index in the library.
        index: u32,
        /// What is wrong.
        problem: String,
    },
    /// The child process for an isolated plugin cannot be started, or does not answer.
    #[error("cannot be isolated: {0}")]
    Isolation(String),
}
