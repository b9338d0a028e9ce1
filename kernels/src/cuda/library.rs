//! libtorch's CUDA half, NVIDIA's driver and run-time compiler, opened while the program runs.
//!
//! Pressroom is linked to libtorch's CPU half alone, so that one binary runs with and without a GPU. The CUDA half
//! registers its kernels with the CPU half when it is opened.
#![allow(unsafe_code, reason = "opening a library runs its initialisers")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use cudarc::{driver, nvrtc};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// File name of libtorch's CUDA half.
pub const LIBTORCH_CUDA: &str = "libtorch_cuda.so";

/// NVIDIA's driver, by the name under which it is installed.
const DRIVER: &str = "libcuda.so.1";

/// NVIDIA's run-time compiler, of the release that libtorch is built with.
const NVRTC: &str = "libnvrtc.so.13";

/// What that one opens by its bare name. It does not look beside itself; opened before, it is found.
const NVRTC_BUILTINS: &str = "libnvrtc-builtins.so.13.0";

/// The least release of CUDA that a driver has to know, as drivers tell it.
const CUDA: i32 = 13_000;

/// Libraries beside the CUDA half that libtorch opens by their bare names when an operation calls for them (linear
/// algebra, kernels compiled at run time). It looks beside its CPU half, which lies elsewhere; opened before, they are
/// found.
const COMPANIONS: [&str; 2] = ["libtorch_cuda_linalg.so", "libcaffe2_nvrtc.so"];

/// Folders where the run-time compiler may lie, from that of libtorch's CUDA half: as Python packages and as archives
/// have it.
const NVRTC_FOLDERS: [&str; 2] = ["../../nvidia/cu13/lib", "."];

/// Where libtorch's CUDA half was opened.
static LIBTORCH: Mutex<Option<PathBuf>> = Mutex::new(None);

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
    *LIBTORCH.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder.to_owned());
    Ok(())
}

/// NVIDIA's driver, ready for use.
#[derive(Clone, Copy, Debug)]
pub struct Driver {
    /// The release of CUDA that it knows, 13000 for 13.0.
    pub cuda: i32,
    /// GPUs that it sees.
    pub devices: usize,
}

/// Opens NVIDIA's driver, which is installed beside the operating system and not by Pressroom; the first call decides
/// for the process.
///
/// # Errors
/// There is no driver, or a damaged one; it is too old; it does not start. What to do is said too.
pub fn driver() -> Result<Driver, String> {
    static FOUND: OnceLock<Result<Driver, String>> = OnceLock::new();
    FOUND.get_or_init(open_driver).clone()
}

fn open_driver() -> Result<Driver, String> {
    open(DRIVER.as_ref()).map_err(|problem| {
        format!("there is no NVIDIA driver ({problem}); install the driver of this machine's GPU")
    })?;
    let mut cuda = 0;
    // SAFETY: the library is there, and writes an integer.
    let told = unsafe { driver::sys::cuDriverGetVersion(&mut cuda) };
    told.result().map_err(|error| format!("the NVIDIA driver does not tell its version: {:?}", error.0))?;
    if cuda < CUDA {
        return Err(format!(
            "the NVIDIA driver is too old: it knows CUDA {}.{}, and 13.0 is needed; install driver 580 or newer",
            cuda / 1000,
            cuda % 1000 / 10
        ));
    }
    let started = driver::result::init().and_then(|()| driver::result::device::get_count());
    match started {
        Ok(devices) => Ok(Driver { cuda, devices: devices.try_into().unwrap_or(0) }),
        Err(error) if error.0 == driver::sys::CUresult::CUDA_ERROR_NO_DEVICE => Ok(Driver { cuda, devices: 0 }),
        Err(error) => Err(format!("the NVIDIA driver does not start: {:?}; check `nvidia-smi`", error.0)),
    }
}

/// Opens the run-time compiler: beside libtorch's CUDA half, or where the dynamic linker looks.
pub(super) fn open_nvrtc() -> Result<(), String> {
    static FOUND: OnceLock<Result<(), String>> = OnceLock::new();
    let look = || {
        let libtorch = LIBTORCH.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let beside = NVRTC_FOLDERS.iter().filter_map(|folder| Some(libtorch.as_ref()?.join(folder)));
        let mut problem = String::new();
        for folder in beside.chain([PathBuf::new()]) {
            match open_nvrtc_in(&folder) {
                Ok(()) => return Ok(()),
                Err(told) => problem = told,
            }
        }
        Err(format!(
            "CUDA's run-time compiler, which makes the kernels, cannot be opened ({problem}); run `make setup-cuda`, or \
             set PRESSROOM_KERNELS=reference to do without them"
        ))
    };
    FOUND.get_or_init(look).clone()
}

/// Opens the run-time compiler in a folder, or with an empty path where the dynamic linker looks.
pub(super) fn open_nvrtc_in(folder: &Path) -> Result<(), String> {
    // Where there are none, the compiler says so.
    let _ = open(folder.join(NVRTC_BUILTINS).as_os_str());
    open(folder.join(NVRTC).as_os_str())?;
    // SAFETY: opens the library, which is there, by the name that it now has in the process.
    match unsafe { nvrtc::sys::is_culib_present() } {
        true => Ok(()),
        false => Err(format!("{NVRTC} is not found by its name")),
    }
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
