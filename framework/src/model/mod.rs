//! Llama on libtorch, and the files it is read from.

mod attention;
mod chat;
mod config;
mod decoder;
mod folder;
pub mod hub;
pub mod import;
mod mapped;
mod rope;
mod tokenizer;
mod weights;

pub use chat::{ChatTemplate, Message};
pub use config::{LlamaConfig, RopeScaling};
pub use decoder::{Llama, LoadOptions, Step};
pub(crate) use folder::checkout_home;
pub use folder::{GenerationConfig, ModelFolder, known_models, models_home};
pub use rope::Rotary;
pub use tokenizer::{TextTokenizer, TokenStream};
