//! Llama on libtorch, and the files it is read from.

mod adapter;
mod arena;
mod attention;
mod chat;
mod config;
mod context_layer;
mod decoder;
mod folder;
pub mod hub;
pub mod import;
mod mapped;
mod memory;
mod placement;
mod rope;
mod tokenizer;
mod weights;

pub use adapter::LoraAdapter;
pub use chat::{ChatTemplate, Message};
pub use config::{LlamaConfig, RopeScaling};
pub use context_layer::ContextLayer;
pub use decoder::{Llama, LoadOptions, Sensitivity, Step};
pub(crate) use folder::checkout_home;
pub use folder::{GenerationConfig, ModelFolder, known_models, models_home};
pub use memory::{PeakMemory, PrefillCost};
pub use placement::Placement;
pub use rope::Rotary;
pub use tokenizer::{TextTokenizer, TokenStream};
