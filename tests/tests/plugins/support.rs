//! Libraries for these tests: the examples, and what `cc` makes of a few lines.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use pressroom::press::Registry;
use pressroom_plugin_host::{Refusal, open, register};

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The library of `plugins/examples`, which cargo has built beside this test.
pub fn examples() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().join("libpressroom_plugin_examples.so")
}

/// A folder for what these tests build; removed by the system.
fn scratch() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

/// Compiles C into a library called `name`, with the header of a folder; once for each name.
pub fn compile(name: &str, source: &Path, include: &Path) -> PathBuf {
    let library = scratch().join(format!("lib{name}.so"));
    if library.exists() {
        return library;
    }
    let mut command = Command::new("cc");
    command.args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", "-shared", "-fPIC"]);
    let output = command.arg("-I").arg(include).arg(source).arg("-o").arg(&library).arg("-lm").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

/// Compiles a few lines of C.
pub fn compile_text(name: &str, source: &str) -> PathBuf {
    let file = scratch().join(format!("{name}.c"));
    std::fs::write(&file, source).unwrap();
    compile(name, &file, &root().join("plugins/abi/include"))
}

/// The presses in C of `plugins/examples/c`.
pub fn twins_in_c(name: &str) -> PathBuf {
    compile(name, &root().join("plugins/examples/c/twins.c"), &root().join("plugins/abi/include"))
}

/// The built-in presses and those of libraries.
pub fn registry(libraries: &[&Path]) -> Registry {
    let mut registry = pressroom_presses::registry().unwrap();
    for library in libraries {
        register(&mut registry, open(library, None, None).unwrap()).unwrap();
    }
    registry
}

/// Why a library is not loaded.
pub fn refusal(library: &Path) -> Refusal {
    open(library, None, None).unwrap_err()
}
