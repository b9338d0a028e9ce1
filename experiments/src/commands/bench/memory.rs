//! What this process holds in memory, as the system counts it.

use serde::{Deserialize, Serialize};

use crate::system;

/// Resident memory of the process at its highest, in bytes, and what it is made of.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// The sum of the others.
    pub peak: u64,
    /// Before a model is loaded: code, and what libraries hold.
    pub program: u64,
    /// The model's weights.
    pub weights: u64,
    /// The context's cache.
    pub cache: u64,
    /// All else that a prefill and decoding take.
    pub activations: u64,
}

impl Memory {
    /// Divides a peak.
    pub fn of(peak: u64, program: u64, weights: u64, cache: u64) -> Self {
        let activations = peak.saturating_sub(program + weights + cache);
        Self { peak, program, weights, cache, activations }
    }
}

/// Resident bytes now, where the system tells.
pub fn resident() -> Option<u64> {
    system::of_process("VmRSS")
}

/// The most that was resident since the start or since [`forget_peak`].
pub fn peak() -> Option<u64> {
    system::of_process("VmHWM")
}

/// Lets [`peak`] begin anew; without effect where the system has no such thing.
pub fn forget_peak() {
    // The number that resets the peak, proc_pid_clear_refs(5).
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_peak() {
        let Memory { peak, program, weights, cache, activations } = Memory::of(1000, 100, 500, 200);
        assert_eq!((peak, activations), (program + weights + cache + activations, 200));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_written_to_is_resident() {
        let before = resident().unwrap();
        let memory = vec![1u8; 64 << 20];
        assert!(resident().unwrap() >= before + (60 << 20));
        assert!(peak().unwrap() >= before + memory.len() as u64 / 2);
    }
}
