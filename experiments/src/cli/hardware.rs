//! Where a model runs: what several commands take.

use clap::Args;
use pressroom::plan::DeviceChoice;

/// Arguments that say where a model runs.
#[derive(Debug, Args)]
pub struct Hardware {
    /// cpu | cuda:N | auto | cuda:0=16,cuda:1=16: the layers on each
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceChoice,
    /// Threads of the tensor operations [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=4096))]
    pub threads: Option<i32>,
}

impl Hardware {
    /// Gives libtorch the threads that were asked for.
    pub fn set_threads(&self) {
        if let Some(threads) = self.threads {
            tch::set_num_threads(threads);
        }
    }
}
