//! What checks and measures on a GPU (`tests/gpu`), rehearsed with a tiny model and a Python that only says it has torch.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{letters, pressroom, stdout};

/// What stands for the packed tests of kernels.
const KERNELS: &str = r#"#!/bin/sh
echo 'test speed::decoding ... {"kernel": "attention", "layout": "dense", "dtype": "bf16", "context_tokens": 512,
"batch": 2, "seconds": 1e-4, "bytes_per_s": 4e10, "bandwidth_share": 0.5}' | tr '\n' ' '
echo
echo 'test scoring ... ok'
"#;

/// Packs into `folder` what `tests/gpu/pack.py` does, small.
fn pack(folder: &Path, torch: &str) {
    let python = folder.join("python");
    let (module, facts) = (python.join("torch"), python.join(format!("torch-{torch}.dist-info")));
    std::fs::create_dir_all(module.join("lib")).unwrap();
    std::fs::create_dir_all(&facts).unwrap();
    std::fs::write(module.join("__init__.py"), "").unwrap();
    std::fs::write(facts.join("METADATA"), format!("Metadata-Version: 2.1\nName: torch\nVersion: {torch}\n")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/gpu/run.py");
    std::fs::copy(script, folder.join("run.py")).unwrap();
    symlink(env!("CARGO_BIN_EXE_pressroom"), folder.join("pressroom")).unwrap();
    std::fs::write(folder.join("gpu-tests"), KERNELS).unwrap();
    std::fs::set_permissions(folder.join("gpu-tests"), PermissionsExt::from_mode(0o755)).unwrap();
    letters(&folder.join("models/smollm2-135m-instruct"));
}

fn rehearse(folder: &Path) -> Output {
    let mut command = Command::new("python3");
    command.arg(folder.join("run.py")).arg("--rehearse").env("PYTHONPATH", folder.join("python"));
    command.output().unwrap()
}

#[test]
fn the_rehearsal_runs_whole_and_its_report_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    pack(folder.path(), "2.11.0");
    let output = rehearse(folder.path());
    let report = folder.path().join("report.json");
    assert!(output.status.success(), "{}{}", stdout(&output), String::from_utf8_lossy(&output.stderr));
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!(written, serde_json::from_str::<Value>(&stdout(&output)).unwrap());
    let shown = stdout(&pressroom(&["bench", "--show", &report.display().to_string()]));
    for part in ["cpu, torch 2.11.0: all 7 checks passed", "40.0 GB/s", "A context of 1024 tokens", " int4 |"] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
}

#[test]
fn another_torch_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    pack(folder.path(), "2.10.0");
    let output = rehearse(folder.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("has torch 2.10.0; the binaries here are built with 2.11."),
        "{said}"
    );
}
