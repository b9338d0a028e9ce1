//! Selections as files: what every layer and KV head kept of a context, beside the text itself.
//!
//! `selections/SAMPLE-TURN-HASH.safetensors` in a run folder holds one prefill: `text` (UTF-8), `ends` (where each
//! token's text ends, bytes), and a bit for each token of the context, `[layers, kv_heads, tokens / 8]` bytes, the
//! lowest bit first, for each press and ratio. Decisions of the prefill are stored, not what goes on while decoding. HASH
//! is that of the header, which names sessions and questions: in whatever folders of a run, a name stands for one content.

mod kept;
mod merge;
mod read;
mod write;

pub use kept::Kept;
pub use merge::merge;
pub use read::{Stored, read};
pub use write::{Prefill, write};

use serde::{Deserialize, Serialize};

/// Folder of the files within a run's.
const FOLDER: &str = "selections";

/// What is stored in a file's header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Tokens of the context.
    pub tokens: usize,
    /// The questions that were asked, by their turn.
    pub questions: Vec<(usize, String)>,
    /// Label and ratio of each press, in the order of the tensors.
    pub sessions: Vec<(String, Option<f64>)>,
}
