//! Kernels on NVIDIA GPUs: `.cu` files compiled at first use, run in libtorch's memory and order.
//!
//! An operation's folder holds its `.cu` file and the Rust that lays out its launches, which knows a [`Machine`] only:
//! the GPU ([`gpu`]), or in tests an emulator that runs the same `.cu` file on the processor. Nothing of CUDA is needed
//! to build, nor to run on the processor: libraries are opened when a tensor of a GPU comes along ([`library`]).

mod compile;
mod gpu;
mod library;
mod machine;
mod program;
mod rows;
mod store;
#[cfg(test)]
pub(crate) mod tests;

pub use gpu::{Memory, current_stream, memory};
pub use library::{Driver, LIBTORCH_CUDA, driver, open_libtorch_cuda};

pub(crate) use gpu::gpu;
pub(crate) use machine::{Argument, Machine, Record, upload};
pub(crate) use program::{Program, Source, element_name, source};
pub(crate) use rows::{HEADS, HeadRows, Rows, TILE, VECTOR};
