//! From a context and questions to answers out of compressed caches.

mod compress;
mod cuda;
mod decode;
mod device;
mod likelihood;
mod prompt;
mod session;

pub use compress::{ContextTokens, compress};
pub use cuda::{Cuda, Libtorch, NoCuda, cuda};
pub use decode::{Answer, Asked, Batch, DecodeOptions, Finished, StopReason, answer};
pub use device::{has_bf16, place_layers};
pub use likelihood::{Likelihood, likelihood};
pub use prompt::{Prompt, PromptOptions, Question, Regime, Truncation};
pub use session::{Compressed, Decoding, LayerDecision, Session};
