//! Where a press is shown what lies on a device: there, or copied to the processor.

use std::ffi::c_void;

use pressroom_plugin_abi::{PRESSROOM_CUDA, PRESSROOM_READS_CPU, PRESSROOM_READS_CUDA, PressroomDevice};
use tch::{Device, TchError};

use crate::layer::Lent;

/// Where tensors lie when they are lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the memory of the processor.
    Processor,
    /// In the memory of a CUDA device, whose work on them runs on a stream.
    Cuda { index: usize, stream: *mut c_void },
}

impl Place {
    /// Where a press that reads tensors on `devices`, `PRESSROOM_READS_*` added, is shown those of `device`: where they
    /// lie if it can read them there, else as copies on the processor. `stream` gives that of a CUDA device.
    ///
    /// # Errors
    /// The press reads no memory of the processor, and the tensors lie on no CUDA device; what `stream` says.
    pub(crate) fn of(
        device: Device,
        devices: u32,
        stream: impl FnOnce(usize) -> Result<*mut c_void, TchError>,
    ) -> Result<Self, String> {
        match device {
            Device::Cuda(index) if devices & PRESSROOM_READS_CUDA != 0 => {
                let stream = stream(index).map_err(|error| error.to_string())?;
                Ok(Self::Cuda { index, stream })
            }
            _ if devices & PRESSROOM_READS_CPU != 0 => Ok(Self::Processor),
            _ => Err("the press reads the memory of CUDA devices only: run the model on one, and the plugin in this \
                      process"
                .into()),
        }
    }

    /// What libtorch calls it.
    pub(crate) fn device(self) -> Device {
        match self {
            Self::Processor => Device::Cpu,
            Self::Cuda { index, .. } => Device::Cuda(index),
        }
    }

    /// `lent`, which lies there, under the interface's name of the place.
    pub(crate) fn name(self, lent: Lent) -> Lent {
        match self {
            Self::Processor => lent,
            Self::Cuda { index, stream } => {
                lent.on(PressroomDevice { device_type: PRESSROOM_CUDA, device_id: index as i32 }, stream)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: *mut c_void = std::ptr::without_provenance_mut(0x5000);

    fn of(device: Device, devices: u32) -> Result<Place, String> {
        Place::of(device, devices, |index| Ok(STREAM.wrapping_byte_add(index)))
    }

    #[test]
    fn what_lies_on_a_device_is_shown_there_to_those_who_read_it_and_copied_for_the_others() {
        let there = Place::Cuda { index: 1, stream: STREAM.wrapping_byte_add(1) };
        for (device, devices, place) in [
            (Device::Cpu, PRESSROOM_READS_CPU, Place::Processor),
            (Device::Cpu, PRESSROOM_READS_CPU | PRESSROOM_READS_CUDA, Place::Processor),
            (Device::Cuda(1), PRESSROOM_READS_CPU, Place::Processor),
            (Device::Cuda(1), PRESSROOM_READS_CPU | PRESSROOM_READS_CUDA, there),
            (Device::Cuda(1), PRESSROOM_READS_CUDA, there),
            (Device::Mps, PRESSROOM_READS_CPU | PRESSROOM_READS_CUDA, Place::Processor),
        ] {
            assert_eq!(of(device, devices).unwrap(), place, "{device:?} {devices}");
        }
        assert_eq!(there.device(), Device::Cuda(1));
    }

    #[test]
    fn a_press_that_reads_devices_only_is_told_what_to_do_without_one() {
        // A child process reads nothing but copies.
        for (device, devices) in [(Device::Cpu, PRESSROOM_READS_CUDA), (Device::Cuda(0), 0)] {
            let problem = of(device, devices).unwrap_err();
            assert!(problem.contains("run the model on one"), "{problem}");
        }
    }

    #[test]
    fn libtorchs_reason_for_giving_no_stream_is_told() {
        let refused = |_| Err(TchError::Torch("no stream".into()));
        let problem = Place::of(Device::Cuda(0), PRESSROOM_READS_CUDA, refused).unwrap_err();
        assert!(problem.contains("no stream"), "{problem}");
    }
}
