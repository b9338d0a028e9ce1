//! Functions that other libraries have brought into the process, by name.
#![allow(unsafe_code, reason = "a name does not tell a function's type")]

use std::ffi::CStr;

/// The function `name`, if a library of the process has one.
///
/// # Safety
/// `F` is the type of a pointer to that function, in every library that has the name.
pub(crate) unsafe fn function<F: Copy>(name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut libc::c_void>()) };
    // SAFETY: looks a name up among the loaded libraries; the name is a C string.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // SAFETY: as large as a pointer, and one to that function as the caller vouches.
    (!symbol.is_null()).then(|| unsafe { std::mem::transmute_copy(&symbol) })
}
