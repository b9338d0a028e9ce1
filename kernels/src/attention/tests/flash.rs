//! Libtorch's flash attention, called through its C interface: with a library that stands in for libtorch's CUDA half.
#![allow(unsafe_code, reason = "a library is opened")]

use std::path::Path;
use std::process::Command;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Kind, Tensor};

use super::super::context;
use super::super::flash::{attend_with, forward};
use crate::testing::{distance, random};

/// Opens the stand-in for the rest of the process's life.
fn open_stand_in() {
    let folder = tempfile::tempdir().unwrap();
    let built = folder.path().join("flash.so");
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let libtorch = std::env::var_os("LIBTORCH").map_or_else(|| home.join("../.deps/libtorch"), Into::into);
    let output = Command::new("c++")
        .args(["-std=c++17", "-shared", "-fPIC", "-I"])
        .arg(libtorch.join("include"))
        .arg(home.join("src/attention/tests/flash.cpp"))
        .arg("-o")
        .arg(&built)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // SAFETY: built from what is in this crate; what it calls is libtorch's, which is loaded.
    let library = unsafe { Library::open(Some(&built), RTLD_NOW | RTLD_GLOBAL) }.unwrap();
    std::mem::forget(library);
}

#[test]
fn a_slice_of_a_context_is_what_libtorch_is_asked_for() {
    open_stand_in();
    let forward = forward();
    assert!(forward.is_some());
    let draw = |seed, shape: &[i64]| random(seed, shape, 2.0, Kind::BFloat16);
    for (own, tokens) in [(5, 40), (1, 7), (12, 12)] {
        // As in a prefill: keys and values that there is room behind.
        let room = |seed| draw(seed, &[2, 64, 16]).narrow(1, 0, tokens);
        let (queries, keys, values) = (draw(1, &[6, own, 16]), room(2), room(3));
        let attended = attend_with(forward, &queries, &keys, &values).unwrap().unwrap();
        let wide = |data: &Tensor| data.to_kind(Kind::Float);
        let due = context::reference(&wide(&queries), &wide(&keys), &wide(&values)).unwrap();
        assert!(distance(&attended, &due) < 1e-5, "{own} of {tokens}");
    }
    // More queries than keys: what the stand-in refuses.
    let (queries, keys) = (draw(1, &[6, 9, 16]), draw(2, &[2, 8, 16]));
    let problem = attend_with(forward, &queries, &keys, &keys).unwrap_err().to_string();
    assert!(problem.contains("[1, 9, 6, 16]") && problem.contains("enough memory"), "{problem}");
    // What the operation is not for, and a libtorch without it.
    assert!(attend_with(None, &keys, &keys, &keys).unwrap().is_none());
    for (kind, width) in [(Kind::Float, 16), (Kind::BFloat16, 12), (Kind::BFloat16, 264)] {
        let data = random(1, &[2, 8, width], 2.0, kind);
        assert!(attend_with(forward, &data, &data, &data).unwrap().is_none(), "{kind:?} {width}");
    }
}
