//! From a context and questions to answers out of compressed caches.

mod decode;
mod device;
mod prompt;
mod session;

pub use decode::{Answer, DecodeOptions, StopReason, answer};
pub use device::{Hardware, open_device};
pub use prompt::{Prompt, PromptOptions, Question, Regime};
pub use session::{LayerDecision, Session};
