//! The C interface between Pressroom and its plugins, as Rust types of the same layout.
//!
//! A plugin is a shared library that exports one *data* symbol, [`PRESSROOM_ENTRY_SYMBOL`], a [`PressroomEntry`]. Its
//! first part holds no pointer, so the host reads it from the file and decides before any code of the plugin runs.
//!
//! - Integers have fixed widths, text is a pointer and a length in UTF-8, no Rust type crosses.
//! - Every struct but those that can never grow starts with its `size` as its writer knew it. Structs grow only at
//!   their end: [`read`] takes what is there and leaves the rest zero, and zero means "not there" everywhere.
//! - Who makes memory frees it. Tensors are lent for one call; results go into memory that the host owns.
//! - A function that can fail gives a status, and says why through [`PressroomCall::fail`].
//! - What is not lifecycle, score or select is an extension, asked for by its name.
//!
//! `include/pressroom_plugin.h` is made from this crate, `layouts/` records the offsets of every version.
#![no_std]

mod call;
mod entry;
mod extensions;
mod press;
mod read;
mod tensor;
mod view;

pub use call::*;
pub use entry::*;
pub use extensions::*;
pub use press::*;
pub use read::*;
pub use tensor::*;
pub use view::*;
