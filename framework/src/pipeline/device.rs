//! Devices, and what the processor can do.

use std::fmt::Display;

use pressroom_kernels::cuda::{Memory, memory};
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

/// Checks that `bytes` fit into what is free of a GPU's memory.
///
/// # Errors
/// They do not; the message says how much there is.
pub fn check_memory(device: Device, bytes: u128) -> Result<()> {
    let Device::Cuda(index) = device else { return Ok(()) };
    let memory = memory(index).map_err(Error::input)?;
    match short_of(memory, index, bytes) {
        Some(problem) => Err(Error::input(problem)),
        None => Ok(()),
    }
}

/// What is wrong where `bytes` are more than is free.
fn short_of(memory: Memory, index: usize, bytes: u128) -> Option<String> {
    let gigabytes = |bytes: u128| format!("{:.1} GB", bytes as f64 / 1e9);
    (bytes > memory.free as u128).then(|| {
        format!(
            "cuda:{index} has {} free of {}, and the weights take {}; free it (`nvidia-smi` lists who holds it), or take a \
             dtype of fewer bytes, a smaller model, or device cpu",
            gigabytes(memory.free as u128),
            gigabytes(memory.total as u128),
            gigabytes(bytes),
        )
    })
}

fn on_the_processor(reason: &NoCuda) -> Device {
    if reason.installed {
        warn!("device auto is the processor: {reason}");
    } else {
        info!("device auto is the processor: {reason}");
    }
    Device::Cpu
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_is_told_with_what_there_is() {
        let memory = Memory { free: 3_000_000_000, total: 4_000_000_000 };
        let problem = short_of(memory, 1, 141_100_000_000).unwrap();
        assert!(problem.contains("cuda:1 has 3.0 GB free of 4.0 GB, and the weights take 141.1 GB"), "{problem}");
        assert!(problem.contains("dtype of fewer bytes"), "{problem}");
        assert_eq!(short_of(memory, 1, 3_000_000_000), None);
        assert!(check_memory(Device::Cpu, u128::MAX).is_ok());
    }
}
