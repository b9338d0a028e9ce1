//! NVIDIA's run-time compiler, NVRTC.
#![allow(unsafe_code, reason = "NVRTC is a C library")]

use std::ffi::{CString, c_char};
use std::ptr;

use cudarc::nvrtc::{result, sys};

use super::library::open_nvrtc;
use super::program::HEADERS;
use super::{Program, Source};

/// A GPU's architecture: the compute capability 9.0 is `Architecture(90)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Architecture(pub(super) u32);

/// A program's machine code for an architecture.
///
/// # Errors
/// NVRTC is not there; the source has mistakes, which are told with file and line.
pub(super) fn compile(program: &Program, architecture: Architecture) -> Result<Vec<u8>, String> {
    open_nvrtc()?;
    let mut options = vec![format!("--gpu-architecture=sm_{}", architecture.0), "--std=c++17".into()];
    options.extend(program.definitions());
    let session = Session::new(&Source { path: program.path(), text: program.text() })?;
    session.compile(&options)
}

/// Which compiler there is and what for: what was compiled by another is no use.
///
/// # Errors
/// NVRTC is not there.
pub(super) fn identity(architecture: Architecture) -> Result<String, String> {
    open_nvrtc()?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the library is there, and writes two integers.
    let outcome = unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
    outcome.result().map_err(|error| format!("NVRTC does not tell its version: {error}"))?;
    Ok(format!("nvrtc {major}.{minor} sm_{}", architecture.0))
}

/// A program in NVRTC's hands.
struct Session {
    handle: sys::nvrtcProgram,
    path: &'static str,
    /// What NVRTC may go on to read.
    _texts: Vec<CString>,
}

impl Session {
    fn new(source: &Source) -> Result<Self, String> {
        let text = |text: &str| CString::new(text).map_err(|_| format!("{} holds a zero byte", source.path));
        let mut texts = vec![text(source.text)?, text(source.path)?];
        for header in &HEADERS {
            texts.extend([text(header.text)?, text(header.path)?]);
        }
        let every_other = |first: usize| -> Vec<*const c_char> {
            texts[first..].iter().step_by(2).map(|text| text.as_ptr()).collect()
        };
        let (headers, names) = (every_other(2), every_other(3));
        let mut handle = ptr::null_mut();
        // SAFETY: the texts end with a zero byte and live as long as the program; there are as many headers as names.
        let outcome = unsafe {
            sys::nvrtcCreateProgram(
                &mut handle,
                texts[0].as_ptr(),
                texts[1].as_ptr(),
                headers.len() as i32,
                headers.as_ptr(),
                names.as_ptr(),
            )
        };
        outcome.result().map_err(|error| format!("NVRTC does not take {}: {error}", source.path))?;
        Ok(Self { handle, path: source.path, _texts: texts })
    }

    fn compile(&self, options: &[String]) -> Result<Vec<u8>, String> {
        // SAFETY: the handle is a program's, not compiled yet.
        unsafe { result::compile_program(self.handle, options) }
            .map_err(|error| format!("{} cannot be compiled ({error}):\n{}", self.path, self.log()))?;
        let mut size = 0;
        // SAFETY: the handle is that of a compiled program.
        let sized = unsafe { sys::nvrtcGetCUBINSize(self.handle, &mut size) };
        let mut code = vec![0u8; size];
        // SAFETY: as above, and there is room for the size that was told.
        let copied =
            sized.result().and_then(|()| unsafe { sys::nvrtcGetCUBIN(self.handle, code.as_mut_ptr().cast()).result() });
        copied.map_err(|error| format!("NVRTC gives no machine code for {}: {error}", self.path))?;
        Ok(code)
    }

    /// What the compiler said.
    fn log(&self) -> String {
        // SAFETY: the handle is a program's.
        let log = unsafe { result::get_program_log(self.handle) }.unwrap_or_default();
        let bytes: Vec<u8> = log.into_iter().map(|byte| byte as u8).take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the handle is a program's, and this is its last use.
        let _ = unsafe { result::destroy_program(self.handle) };
    }
}
