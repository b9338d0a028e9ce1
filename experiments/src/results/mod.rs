//! What a run leaves behind: every answer in a journal that survives interruptions, and what the run was.

mod attempt;
mod disk;
mod folder;
mod identity;
mod line;
mod machine;
mod memory;
mod merge;
mod metrics;
mod record;

/// The experiment as written, overrides applied, in a run folder.
pub const EXPERIMENT: &str = "experiment.toml";
/// What was asked, without the contexts, in a run folder.
pub const QUESTIONS: &str = "questions.json";

pub use attempt::{attempts, finished_anywhere, open_attempt};
pub use folder::{RunFolder, finished_in, read_records};
pub use identity::{Identity, Versions, differences, digest};
pub use machine::{Machine, available_memory};
pub use memory::{MemoryMeter, Peak};
pub use merge::merge;
pub use metrics::{Metrics, SessionMetrics};
pub use record::{Key, Record};
