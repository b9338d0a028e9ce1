//! A machine for tests that runs `.cu` files on the processor: compiled as C++, with fibers for threads.
#![allow(unsafe_code, reason = "what is compiled is called")]

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use libloading::Library;
use tch::{Device, TchError, Tensor};

use super::super::machine::check_grid;
use super::super::program::HEADERS;
use super::super::{Argument, Machine, Program};

/// Tensors on the processor are its memory.
pub(crate) struct Emulator {
    /// Whether threads run in the opposite order.
    pub(crate) reversed: bool,
}

type Emulate = unsafe extern "C" fn(*const u32, *const *mut c_void, bool) -> *const c_char;

static BUILT: Mutex<Option<HashMap<String, &'static Library>>> = Mutex::new(None);

fn library(program: &Program) -> &'static Library {
    // A panic while another test builds is that test's.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let name = format!(
        "{}-{}",
        program.entry,
        program.digest(concat!(include_str!("emulator.cuh"), include_str!("emulator.rs")))
    );
    built.get_or_insert_default().entry(name.clone()).or_insert_with(|| {
        let library = build(program, &name);
        // SAFETY: the library was built from what is in this crate; it has no initialisers.
        Box::leak(Box::new(unsafe { Library::new(&library) }.unwrap()))
    })
}

/// Builds a program in a folder of its own, once and for all test runs.
fn build(program: &Program, name: &str) -> PathBuf {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp/emulator");
    let library = home.join(format!("{name}.so"));
    if library.is_file() {
        return library;
    }
    std::fs::create_dir_all(&home).unwrap();
    let folder = tempfile::tempdir_in(&home).unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    for header in &HEADERS {
        write(header.path, header.text);
    }
    write("cuda/machine.cuh", include_str!("emulator.cuh"));
    write(program.path(), program.text());
    write("main.cpp", &format!("#include \"{}\"\nEMULATE({})\n", program.path(), program.entry));
    let output = Command::new("c++")
        .args(["-std=c++17", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Werror"])
        .args(["-U_FORTIFY_SOURCE", "-I."])
        // Vectors at odd addresses, and indices beyond arrays, which a GPU would not forgive.
        .args(["-fsanitize=alignment,bounds,shift", "-fsanitize-undefined-trap-on-error"])
        .args(program.definitions())
        .args(["main.cpp", "-o", "built.so"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{program:?}\n{}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(folder.path().join("built.so"), &library).unwrap();
    library
}

impl Machine for Emulator {
    fn device(&self) -> Device {
        Device::Cpu
    }

    unsafe fn launch(&self, program: &Program, grid: [u32; 3], arguments: &[Argument]) -> Result<(), TchError> {
        check_grid(program, grid)?;
        let library = library(program);
        // SAFETY: the name is that function's.
        let emulate =
            unsafe { library.get::<Emulate>(b"emulate") }.map_err(|error| TchError::Torch(error.to_string()))?;
        let places: Vec<*mut c_void> = arguments.iter().map(Argument::place).collect();
        // SAFETY: the caller vouches for the arguments.
        let problem = unsafe { emulate(grid.as_ptr(), places.as_ptr(), self.reversed) };
        if problem.is_null() {
            return Ok(());
        }
        // SAFETY: what is told is a literal.
        let problem = unsafe { CStr::from_ptr(problem) }.to_string_lossy();
        Err(TchError::Torch(format!("{}: {problem}", program.path())))
    }

    fn write(&self, bytes: &[u8], tensor: &Tensor) -> Result<(), TchError> {
        let bytes = Tensor::f_from_slice(bytes)?;
        tensor.shallow_clone().f_copy_(&bytes)
    }
}
