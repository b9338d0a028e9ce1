//! Plugins in C, compiled by the test that loads them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The library that `cc` makes of `source` in `folder`.
pub fn compiled(folder: &Path, source: &str) -> PathBuf {
    let (file, library) = (folder.join("plugin.c"), folder.join("libplugin.so"));
    std::fs::write(&file, source).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic", "-shared", "-fPIC", "-I"]);
    cc.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../abi/include"));
    let output = cc.arg(&file).arg("-o").arg(&library).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}
