//! Pressroom's kernels: one operation, one folder.
//!
//! Each folder holds the operation's plain reference (torch operations) and faster implementations that are tested
//! against it. Callers see the operation, not the implementation: device, dtype and the processor choose
//! ([`dispatch`]), and `PRESSROOM_KERNELS=reference` forces the reference.
#![allow(clippy::needless_range_loop, reason = "register tiles are several arrays with the same indices")]

pub mod attention;
pub mod cuda;
pub mod dispatch;
mod element;
pub mod gate;
pub mod keep;
pub mod linear;
pub mod norm;
pub mod order;
pub mod pages;
pub mod probe;
pub mod quadratic;
pub mod quantized;
pub mod received;
pub mod rotary;
mod rows;
mod simd;
mod symbol;
#[cfg(test)]
mod testing;
pub mod threads;
mod tile;
pub mod vector_norm;
