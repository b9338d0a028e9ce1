//! Loads press plugins, runs them in this process or apart from it, checks what they return, and survives bad ones.
//!
//! [`LibraryFile`] is a library as a file, hashed and read before any of its code runs; [`Library`] is one that is
//! loaded; [`register`] puts its presses beside the built-in ones. [`isolation`] runs them in a child process.

mod adapter;
mod call;
pub mod check;
mod describe;
mod file;
mod instance;
pub mod isolation;
mod layer;
mod library;
mod memory;
mod offer;
mod place;
mod refusal;
mod register;
mod schema;
mod tensors;

pub use call::Failure;
pub use describe::Description;
pub use file::{Header, LibraryFile};
pub use instance::{Instance, RawBudget, RawModel, RawNeeds};
pub use layer::{Dtype, Frame, Layer, Layout, Lent, Part};
pub use library::{Library, LoadedPress};
pub use refusal::{Reason, Refusal};
pub use register::{Opened, open, register};
