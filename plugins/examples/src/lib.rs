//! Presses as a plugin. One library may hold several; each is a file of its own here.
// Not `forbid`: ndarray's `s!` allows what it needs.
#![deny(unsafe_code)]

mod entropy_heads;
mod knorm;
mod rkv;
mod snapkv;
mod window;

pub use entropy_heads::EntropyHeads;
pub use knorm::Knorm;
pub use rkv::Rkv;
pub use snapkv::SnapKv;

pressroom_plugin::export!(scorers: [Rkv, Knorm, SnapKv], selectors: [EntropyHeads]);
