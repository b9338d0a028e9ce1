//! Devices, and what the processor can do.

use tch::Device;

use crate::error::{Error, Result};

/// What decides how `auto` is resolved.
#[derive(Clone, Copy, Debug)]
pub struct Hardware {
    /// Whether the processor multiplies bf16 matrices in hardware.
    pub bf16_arithmetic: bool,
    /// Whether libtorch sees a CUDA device.
    pub cuda: bool,
}

impl Hardware {
    /// Asks the processor and libtorch.
    pub fn detect() -> Self {
        Self { bf16_arithmetic: processor_has_bf16(), cuda: tch::Cuda::is_available() }
    }
}

#[cfg(target_arch = "x86_64")]
fn processor_has_bf16() -> bool {
    std::is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn processor_has_bf16() -> bool {
    false
}

/// Makes sure that `device` can be used.
///
/// # Errors
/// A CUDA device is asked for and there is none; the message says what is missing.
pub fn open_device(device: Device) -> Result<Device> {
    let Device::Cuda(index) = device else { return Ok(device) };
    if !tch::Cuda::is_available() {
        return Err(Error::input(format!(
            "device cuda:{index} cannot be used: libtorch sees no CUDA device; \
             run `make setup-cuda` and check that an NVIDIA driver is installed, or use device cpu"
        )));
    }
    let count = tch::Cuda::device_count();
    if index as i64 >= count {
        return Err(Error::input(format!(
            "device cuda:{index} does not exist: there are {count} CUDA devices, from cuda:0"
        )));
    }
    Ok(device)
}
