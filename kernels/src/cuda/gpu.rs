//! A GPU: its compiled programs, and launches in the order of libtorch's own operations.
#![allow(unsafe_code, reason = "the driver is a C library")]

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};

use cudarc::driver::{DriverError, result, sys};
use tch::{Device, TchError, Tensor};

use super::compile::{Architecture, compile, identity};
use super::machine::check_grid;
use super::{Argument, Machine, Program, driver, store};
use crate::symbol;

/// `aoti_torch_get_current_cuda_stream` of libtorch's C interface: writes the stream that its operations on a device
/// run on, and gives 0.
type CurrentStream = unsafe extern "C" fn(i32, *mut *mut c_void) -> i32;

/// One GPU.
pub(crate) struct Gpu {
    index: usize,
    context: sys::CUcontext,
    architecture: Architecture,
    /// What programs of another compiler or architecture are told apart by.
    compiler: String,
    kernels: Mutex<HashMap<Program, Kernel>>,
}

/// A kernel in the GPU's memory; programs stay there for the process's life.
#[derive(Clone, Copy)]
struct Kernel(sys::CUfunction);

// SAFETY: handles of the driver may be used by any thread.
unsafe impl Send for Kernel {}
// SAFETY: as above; the map of programs is behind a lock.
unsafe impl Send for Gpu {}
// SAFETY: as above.
unsafe impl Sync for Gpu {}

/// Memory of a GPU, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Not in use by any process.
    pub free: usize,
    /// In all.
    pub total: usize,
}

/// The GPU with an index, as libtorch counts them.
///
/// # Errors
/// There is no usable driver, run-time compiler, or GPU.
pub(crate) fn gpu(index: usize) -> Result<&'static Gpu, TchError> {
    static GPUS: Mutex<Vec<(usize, &'static Gpu)>> = Mutex::new(Vec::new());
    let mut gpus = GPUS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, found)) = gpus.iter().find(|(known, _)| *known == index) {
        return Ok(found);
    }
    let opened: &'static Gpu = Box::leak(Box::new(Gpu::open(index).map_err(TchError::Torch)?));
    gpus.push((index, opened));
    Ok(opened)
}

/// Memory of the GPU with an index.
///
/// # Errors
/// There is no usable driver or no such GPU.
pub fn memory(index: usize) -> Result<Memory, String> {
    let context = context(index)?;
    in_context(context, result::mem_get_info)
        .map(|(free, total)| Memory { free, total })
        .map_err(|error| format!("the memory of cuda:{index} cannot be told: {:?}", error.0))
}

/// The stream (`cudaStream_t`) of the GPU with an index that libtorch's operations of this thread run on; null is CUDA's
/// legacy default stream.
///
/// # Errors
/// libtorch's CUDA half is not open, or there is no such GPU.
pub fn current_stream(index: usize) -> Result<*mut c_void, TchError> {
    static CURRENT: OnceLock<Option<CurrentStream>> = OnceLock::new();
    // SAFETY: it is that function in every libtorch that has the name.
    let current = CURRENT.get_or_init(|| unsafe { symbol::function(c"aoti_torch_get_current_cuda_stream") });
    let mut stream = std::ptr::null_mut();
    let told = current.map(|current| {
        // SAFETY: the function writes one address.
        unsafe { current(index as i32, &mut stream) }
    });
    match told {
        Some(0) => Ok(stream),
        _ => Err(TchError::Torch(format!("libtorch does not tell its stream on cuda:{index}"))),
    }
}

/// The context of a GPU that libtorch uses too.
fn context(index: usize) -> Result<sys::CUcontext, String> {
    let devices = driver()?.devices;
    if index >= devices {
        return Err(format!("there are {devices} CUDA devices, counted from cuda:0"));
    }
    let opened = result::device::get(index as c_int)
        // SAFETY: the device is there. It is never released: the process uses it to its end.
        .and_then(|device| unsafe { result::primary_ctx::retain(device) });
    opened.map_err(|error| format!("cuda:{index} cannot be used: {:?}; check `nvidia-smi`", error.0))
}

/// Runs `body` with a context, and leaves the thread as it was.
fn in_context<T>(context: sys::CUcontext, body: impl FnOnce() -> Result<T, DriverError>) -> Result<T, DriverError> {
    // SAFETY: the context is never released.
    unsafe { sys::cuCtxPushCurrent_v2(context) }.result()?;
    let outcome = body();
    let mut popped = std::ptr::null_mut();
    // SAFETY: takes off what was put on above.
    unsafe { sys::cuCtxPopCurrent_v2(&mut popped) }.result()?;
    outcome
}

impl Gpu {
    fn open(index: usize) -> Result<Self, String> {
        let context = context(index)?;
        let number = |attribute: sys::CUdevice_attribute| {
            result::device::get(index as c_int)
                // SAFETY: the device is there.
                .and_then(|device| unsafe { result::device::get_attribute(device, attribute) })
                .map_err(|error| format!("cuda:{index} does not tell its architecture: {:?}", error.0))
        };
        let major = number(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = number(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let architecture = Architecture((10 * major + minor) as u32);
        let compiler = identity(architecture)?;
        Ok(Self { index, context, architecture, compiler, kernels: Mutex::default() })
    }

    fn failed(&self, what: &str, error: DriverError) -> TchError {
        TchError::Torch(format!("{what} on cuda:{}: {:?}", self.index, error.0))
    }

    fn stream(&self) -> Result<sys::CUstream, TchError> {
        current_stream(self.index).map(<*mut c_void>::cast)
    }

    /// A program in the GPU's memory, compiled if it never was.
    fn kernel(&self, program: &Program) -> Result<Kernel, TchError> {
        let mut kernels = self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = kernels.get(program) {
            return Ok(*kernel);
        }
        let name = program.digest(&self.compiler);
        let code = store::stored(store::folder().as_deref(), &name, || compile(program, self.architecture))
            .map_err(TchError::Torch)?;
        let entry = CString::new(program.entry).map_err(|error| TchError::Torch(error.to_string()))?;
        let loaded = in_context(self.context, || {
            // SAFETY: the code is whole, as the compiler gave it; the driver copies it.
            let module = unsafe { result::module::load_data(code.as_ptr().cast()) }?;
            // SAFETY: the module is loaded and never unloaded.
            unsafe { result::module::get_function(module, entry) }
        });
        let kernel = Kernel(loaded.map_err(|error| self.failed(program.path(), error))?);
        kernels.insert(program.clone(), kernel);
        Ok(kernel)
    }
}

impl Machine for Gpu {
    fn device(&self) -> Device {
        Device::Cuda(self.index)
    }

    unsafe fn launch(&self, program: &Program, grid: [u32; 3], arguments: &[Argument]) -> Result<(), TchError> {
        check_grid(program, grid)?;
        let (kernel, stream) = (self.kernel(program)?, self.stream()?);
        let mut places: Vec<*mut c_void> = arguments.iter().map(Argument::place).collect();
        let (grid, block) = (grid.into(), (program.threads, 1, 1));
        in_context(self.context, || {
            // SAFETY: the kernel and the stream are the GPU's; the caller vouches for the arguments.
            unsafe { result::launch_kernel(kernel.0, grid, block, 0, stream, &mut places) }
        })
        .map_err(|error| self.failed(program.path(), error))
    }

    fn write(&self, bytes: &[u8], tensor: &Tensor) -> Result<(), TchError> {
        let room = tensor.numel() * tensor.kind().elt_size_in_bytes();
        if tensor.device() != self.device() || !tensor.is_contiguous() || room != bytes.len() {
            return Err(TchError::Shape(format!("{} bytes to a tensor {:?}", bytes.len(), tensor.size())));
        }
        let stream = self.stream()?;
        let to = tensor.data_ptr() as sys::CUdeviceptr;
        // SAFETY: the tensor has room for the bytes. They are ordinary memory, which the driver has copied from when
        // the call returns.
        in_context(self.context, || unsafe { result::memcpy_htod_async(to, bytes, stream) })
            .map_err(|error| self.failed("a copy to the GPU", error))
    }
}
