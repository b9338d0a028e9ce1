//! libtorch's CUDA half and NVIDIA's driver, opened while the program runs.
//!
//! Pressroom is linked to libtorch's CPU half alone, so that one binary runs with and without a GPU. The CUDA half
//! registers its kernels with the CPU half when it is opened.
#![allow(unsafe_code, reason = "opening a library runs its initialisers")]

use std::ffi::OsStr;
use std::path::Path;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// File name of libtorch's CUDA half.
pub const LIBTORCH_CUDA: &str = "libtorch_cuda.so";

/// NVIDIA's driver, by the name under which it is installed.
const DRIVER: &str = "libcuda.so.1";

/// Libraries beside the CUDA half that libtorch opens by their bare names when an operation calls for them (linear
/// algebra, kernels compiled at run time). It looks beside its CPU half, which lies elsewhere; opened before, they are
/// found.
const COMPANIONS: [&str; 2] = ["libtorch_cuda_linalg.so", "libcaffe2_nvrtc.so"];

/// Opens libtorch's CUDA half in `folder` for the rest of the process's life. libtorch looks for it once: open it
/// before anything asks libtorch about CUDA. `folder` has to be of the release that is loaded.
///
/// # Errors
/// What the dynamic linker says: the library or one that it needs is absent, damaged, or of another release.
pub fn open_libtorch_cuda(folder: &Path) -> Result<(), String> {
    open(folder.join(LIBTORCH_CUDA).as_os_str())?;
    for companion in COMPANIONS {
        // One that cannot be opened is missed by its own operations only, which then say so.
        let _ = open(folder.join(companion).as_os_str());
    }
    Ok(())
}

/// Opens NVIDIA's driver, which is installed beside the operating system and not by Pressroom.
///
/// # Errors
/// What the dynamic linker says: there is no driver, or a damaged one.
pub fn open_driver() -> Result<(), String> {
    open(DRIVER.as_ref())
}

fn open(library: &OsStr) -> Result<(), String> {
    // At once, not symbol by symbol: what another release lacks is an error here and not a crash in a computation.
    // SAFETY: the initialisers that run are those of libtorch and NVIDIA, made to be opened in this way (Python does
    // the same); they rely on nothing of this program. No symbol is taken from the library here.
    let library = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_GLOBAL) }.map_err(|error| match error {
        libloading::Error::DlOpen { source } => source.to_string(),
        other => other.to_string(),
    })?;
    // Its kernels stay registered, so it must never be unloaded.
    std::mem::forget(library);
    Ok(())
}
