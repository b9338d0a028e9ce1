//! The machine by its properties.

use pressroom::pipeline::cuda;
use pressroom_kernels::dispatch::Level;
use serde::Serialize;

use crate::system;

/// What a run's speed depends on; `machine.json` of its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The processor's name, or its architecture.
    pub processor: String,
    /// Its family, where the system tells.
    pub family: Option<String>,
    /// Cores that this process may use.
    pub cores: usize,
    /// Threads of the tensor operations.
    pub threads: i32,
    /// Instruction sets that the kernels know.
    pub instruction_sets: Vec<&'static str>,
    /// Bytes of memory, where the system tells.
    pub memory: Option<u64>,
    /// CUDA devices.
    pub cuda_devices: usize,
    /// The operating system.
    pub system: &'static str,
}

impl Machine {
    /// The machine of this process.
    pub fn this() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let named = |field: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(field))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        Self {
            processor: named("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            family: named("cpu family"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads: tch::get_num_threads(),
            instruction_sets: Level::available().into_iter().map(Level::name).collect(),
            memory: system::of_machine("MemTotal"),
            cuda_devices: cuda().map_or(0, |cuda| cuda.devices),
            system: std::env::consts::OS,
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { processor, family, cores, threads, instruction_sets, .. } = self;
        let family = family.as_deref().unwrap_or("unknown");
        let sets = instruction_sets.join(", ");
        write!(f, "Processor: {processor} (family {family}), {threads} of {cores} cores used, instruction sets {sets}.")
    }
}

/// Bytes that this process can still allocate, where the system tells: what is free of the machine's memory and of
/// the control group's.
pub fn available_memory() -> Option<u64> {
    let group =
        |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/memory.{name}")).ok()?.trim().parse::<u64>().ok();
    let left = group("max").map(|most| most.saturating_sub(group("current").unwrap_or(0)));
    [system::of_machine("MemAvailable"), left].into_iter().flatten().min()
}
