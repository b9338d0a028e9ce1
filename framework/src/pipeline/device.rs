//! Devices, and what the processor can do.

use std::fmt::Display;

use pressroom_kernels::cuda::{Memory, memory};
use tch::{Device, Kind};
use tracing::{info, warn};

use super::cuda::{NoCuda, cuda};
use crate::error::{Error, Result};
use crate::model::{LlamaConfig, Placement};
use crate::plan::{DeviceChoice, DtypeChoice};

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

/// Where the layers of a model go, and the dtype of the choices there.
///
/// `auto` is the first CUDA device if the weights leave half of its memory to caches, else all CUDA devices by their
/// free memory, or the processor where there is none.
///
/// # Errors
/// A CUDA device is asked for and cannot be used, or has too little memory; a device map places another number of
/// layers. The message says what is missing.
pub fn place_layers(choice: &DeviceChoice, config: &LlamaConfig, dtype: DtypeChoice) -> Result<(Placement, Kind)> {
    let layers = config.num_hidden_layers;
    let placement = match choice {
        DeviceChoice::Cpu => Placement::single(Device::Cpu),
        DeviceChoice::Cuda(index) => Placement::single(usable(*index)?),
        DeviceChoice::Layers(runs) => {
            for (device, _) in runs {
                if let Device::Cuda(index) = device {
                    usable(*index)?;
                }
            }
            Placement::of(runs, layers)?
        }
        DeviceChoice::Auto => match cuda() {
            Err(reason) => Placement::single(on_the_processor(reason)),
            Ok(cuda) => {
                let room = |index| Ok((Device::Cuda(index), memory(index).map_err(Error::input)?.free as u128));
                let places = (0..cuda.devices).map(room).collect::<Result<Vec<_>>>()?;
                let bytes = config.parameters() * dtype.resolve(true).elt_size_in_bytes() as u128;
                Placement::spread(layers, bytes, &places).unwrap_or_else(|| Placement::single(Device::Cpu))
            }
        },
    };
    let kind = dtype.resolve(placement.places().into_iter().all(has_bf16));
    for place in placement.places() {
        let held = (0..layers).filter(|layer| placement.layer(*layer) == place).count() as u128;
        // By layers: the embedding and the output are small beside them.
        let bytes = config.parameters() * kind.elt_size_in_bytes() as u128 * held / layers.max(1) as u128;
        check_memory(place, bytes)?;
    }
    Ok((placement, kind))
}

/// The CUDA device with an index.
fn usable(index: usize) -> Result<Device> {
    let unusable = |problem: &dyn Display| {
        Error::input(format!("device cuda:{index} cannot be used: {problem}; or use device cpu"))
    };
    let devices = cuda().map_err(|problem| unusable(problem))?.devices;
    if index < devices {
        return Ok(Device::Cuda(index));
    }
    Err(unusable(&format!("there are {devices} CUDA devices, counted from cuda:0")))
}

/// Checks that `bytes` fit into what is free of a GPU's memory.
///
/// # Errors
/// They do not; the message says how much there is.
fn check_memory(device: Device, bytes: u128) -> Result<()> {
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
