//! The presses that a command can name: the built-in ones and those of plugins.

use std::path::{Path, PathBuf};

use pressroom::press::Registry;
use pressroom::spec::PluginSpec;
use pressroom::{Error, Result};
use pressroom_plugin_host::isolation::Isolation;
use pressroom_plugin_host::{open, register};

/// Seconds for a call of an isolated plugin, unless the file says otherwise.
const DEFAULT_SECONDS: u64 = 60;

/// MiB of memory for an isolated plugin, unless the file says otherwise.
const DEFAULT_MEMORY_MIB: u64 = 4096;

/// The built-in presses, those of the libraries `named` on the command line, and those that a file asks for.
///
/// # Errors
/// A library cannot be used, or two presses have one name. What a file asks for is shown where it asks.
pub(crate) fn registry_with(named: &[PathBuf], asked: &[PluginSpec]) -> Result<Registry> {
    let mut registry = pressroom_presses::registry()?;
    for path in named {
        add(&mut registry, path, None, None).map_err(Error::Input)?;
    }
    for spec in asked {
        let isolation = spec.isolated.then(|| isolation(spec));
        let added = add(&mut registry, &spec.path, spec.sha256.as_deref(), isolation.as_ref());
        added.map_err(|problem| spec.mistake(problem))?;
    }
    Ok(registry)
}

fn add(
    registry: &mut Registry,
    path: &Path,
    sha256: Option<&str>,
    isolation: Option<&Isolation>,
) -> Result<(), String> {
    let opened = open(path, sha256, isolation).map_err(|refusal| format!("plugin {refusal}"))?;
    register(registry, opened).map_err(|error| format!("plugin {}: {error}", path.display()))
}

fn isolation(spec: &PluginSpec) -> Isolation {
    Isolation {
        // The program that runs, even where a newer build has taken its place meanwhile.
        program: "/proc/self/exe".into(),
        seconds: spec.time_limit_s.unwrap_or(DEFAULT_SECONDS),
        memory_mib: spec.memory_limit_mib.unwrap_or(DEFAULT_MEMORY_MIB),
    }
}
