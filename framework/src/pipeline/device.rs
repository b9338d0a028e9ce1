//! Devices, and what the processor can do.

use std::fmt::Display;

use tch::Device;
use tracing::{info, warn};

use super::cuda::{NoCuda, cuda};
use crate::error::{Error, Result};
use crate::plan::DeviceChoice;

/// Whether the processor multiplies bf16 matrices in hardware.
#[cfg(target_arch = "x86_64")]
pub fn processor_has_bf16() -> bool {
    std::is_x86_feature_detected!("avx512bf16")
}

/// Whether the processor multiplies bf16 matrices in hardware; known of x86-64 only.
#[cfg(not(target_arch = "x86_64"))]
pub fn processor_has_bf16() -> bool {
    false
}

/// Whether `device` multiplies bf16 matrices in hardware.
pub fn has_bf16(device: Device) -> bool {
    device != Device::Cpu || processor_has_bf16()
}

/// The device of a choice. `auto` is the first CUDA device, or the processor where there is none.
///
/// # Errors
/// A CUDA device is asked for and cannot be used; the message says what is missing.
pub fn open_device(choice: DeviceChoice) -> Result<Device> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(cuda().map_or_else(on_the_processor, |_| Device::Cuda(0))),
        DeviceChoice::Cuda(index) => {
            let unusable = |problem: &dyn Display| {
                Error::input(format!("device cuda:{index} cannot be used: {problem}; or use device cpu"))
            };
            let devices = cuda().map_err(|problem| unusable(problem))?.devices;
            if index < devices {
                return Ok(Device::Cuda(index));
            }
            Err(unusable(&format!("there are {devices} CUDA devices, counted from cuda:0")))
        }
    }
}

fn on_the_processor(reason: &NoCuda) -> Device {
    if reason.installed {
        warn!("device auto is the processor: {reason}");
    } else {
        info!("device auto is the processor: {reason}");
    }
    Device::Cpu
}
