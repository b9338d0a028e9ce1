//! What is said where NVIDIA's driver is absent, damaged, too old or without a GPU: with libraries that stand in for it.
//!
//! A process opens one driver, so each case runs in a process of its own: this test program again.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

use std::path::Path;
use std::process::Command;

use pressroom_kernels::cuda::{driver, memory};

/// Set in the processes of cases.
const CASE: &str = "PRESSROOM_TEST_DRIVER";

/// Builds the stand-in with some constants.
fn build(folder: &Path, [version, start, devices]: [u32; 3]) {
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(folder.join("libcuda.so.1"))
        .args([format!("-DVERSION={version}"), format!("-DSTART={start}"), format!("-DDEVICES={devices}")])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/driver.c"))
        .status()
        .unwrap();
    assert!(status.success());
    // Where bindings look first.
    std::os::unix::fs::symlink("libcuda.so.1", folder.join("libcuda.so")).unwrap();
}

/// What a process says whose libraries are in `folder`.
fn said(folder: &Path) -> String {
    let inherited = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = [folder.to_owned()].into_iter().chain(std::env::split_paths(&inherited));
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_case_of_this_process", "--nocapture"])
        .env(CASE, "1")
        .env("LD_LIBRARY_PATH", std::env::join_paths(folders).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The process of a case. Without one, there is nothing to test here: on a machine with a GPU the driver is there.
#[test]
fn the_case_of_this_process() {
    if std::env::var_os(CASE).is_some() {
        println!("driver: {:?}", driver());
        println!("memory: {:?} {:?}", memory(0), memory(1));
    }
}

#[test]
fn each_fault_of_a_driver_is_told_with_what_to_do() {
    let cases: [([u32; 3], &[&str]); 5] = [
        ([12_040, 0, 1], &["too old", "CUDA 12.4", "13.0 is needed", "install driver 580 or newer"]),
        ([13_000, 0, 0], &["devices: 0", "there are 0 CUDA devices"]),
        ([13_000, 100, 1], &["devices: 0"]),
        ([13_000, 999, 1], &["does not start", "nvidia-smi"]),
        (
            [13_020, 0, 1],
            &["cuda: 13020, devices: 1", "Memory { free: 3221225472, total: 4294967296 }", "counted from cuda:0"],
        ),
    ];
    for (constants, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        build(folder.path(), constants);
        let said = said(folder.path());
        for text in expected {
            assert!(said.contains(text), "{constants:?}: {text} is missing in {said}");
        }
    }
}

#[test]
fn a_damaged_driver_is_told_in_the_linkers_words() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("libcuda.so.1"), "no library").unwrap();
    let said = said(folder.path());
    assert!(said.contains("there is no NVIDIA driver") && said.contains("install the driver"), "{said}");
}
