//! What a run held in memory at most, beside what was predicted.

use std::fmt;

use pressroom::model::Placement;
use pressroom_kernels::cuda;
use serde::Serialize;
use tch::Device;

use crate::system;
use crate::table::bytes;

/// Memory at its fullest, in bytes; `memory.json` of a run's folder. It shows as a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Peak {
    /// What the plan foretold: weights, prefills, caches.
    pub predicted: u64,
    /// What was taken since before the model was loaded, where the system tells.
    pub measured: Option<u64>,
}

impl fmt::Display for Peak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let predicted = bytes(u128::from(self.predicted));
        match self.measured {
            Some(measured) => write!(f, "memory {} at most, about {predicted} predicted", bytes(u128::from(measured))),
            None => write!(f, "memory about {predicted} predicted; this system does not tell what was taken"),
        }
    }
}

/// Measures memory from its start on: resident memory of the process and, where layers are on GPUs, what is in use
/// there. Libtorch gives a GPU's memory back to nobody before the process ends, so what is in use at the end is the most
/// that was; what other processes take meanwhile counts too.
#[derive(Debug)]
pub struct MemoryMeter {
    places: Vec<Device>,
    before: Option<u64>,
}

impl MemoryMeter {
    /// Of the devices of a model that is not loaded yet.
    pub fn start(placement: &Placement) -> Self {
        let places = placement.places();
        let before = total(&places, "VmRSS");
        Self { places, before }
    }

    /// The most that was taken since, beside what was predicted.
    pub fn beside(&self, predicted: u64) -> Peak {
        let now = total(&self.places, "VmHWM");
        Peak { predicted, measured: now.zip(self.before).map(|(now, before)| now.saturating_sub(before)) }
    }
}

/// What is in use at the places of a model, `resident` being the field that tells it of this process.
fn total(places: &[Device], resident: &str) -> Option<u64> {
    let used = |place: &Device| match place {
        Device::Cuda(index) => cuda::memory(*index).ok().map(|memory| (memory.total - memory.free) as u64),
        _ => system::of_process(resident),
    };
    places.iter().map(used).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn what_was_held_is_measured_after_it_is_gone() {
        let meter = MemoryMeter::start(&Placement::single(Device::Cpu));
        drop(std::hint::black_box(vec![1u8; 256 << 20]));
        let peak = meter.beside(256 << 20);
        assert!(peak.measured.is_some_and(|measured| measured >= 128 << 20), "{peak}");
        assert!(peak.to_string().contains("268.4 MB predicted"), "{peak}");
    }
}
