//! The kernels on a real GPU: what they compute is what the processor computes, and how fast they read memory.
//!
//! `PRESSROOM_GPU=cuda:0` runs them there, with `PRESSROOM_LIBTORCH_CUDA` naming the folder of libtorch's CUDA half.
//! Without it this rehearses the same on the processor, so that what is packed for a GPU is known to run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a panic is the message")]

mod attention;
mod scoring;
mod speed;
mod steps;

use std::path::PathBuf;
use std::sync::Once;

use pressroom_kernels::cuda::open_libtorch_cuda;
use tch::{Device, Kind, Tensor};

/// Where tests run.
fn device() -> Device {
    static OPENED: Once = Once::new();
    match std::env::var("PRESSROOM_GPU").as_deref() {
        Err(_) => Device::Cpu,
        Ok("cuda:0") => {
            OPENED.call_once(|| {
                let folder = PathBuf::from(std::env::var_os("PRESSROOM_LIBTORCH_CUDA").unwrap());
                open_libtorch_cuda(&folder).unwrap();
            });
            Device::Cuda(0)
        }
        Ok(other) => panic!("PRESSROOM_GPU is {other}: use cuda:0"),
    }
}

fn random(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind)
}

/// Largest difference, relative to the largest value.
fn difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    let wide = |data: &Tensor| data.to_device(Device::Cpu).to_kind(Kind::Double);
    let (ours, theirs) = (wide(ours), wide(theirs));
    ((&ours - &theirs).abs().max() / theirs.abs().max()).double_value(&[])
}

/// What two computations of a dtype may differ by: both round their result.
fn tolerance(kind: Kind) -> f64 {
    match kind {
        Kind::BFloat16 => 2f64.powi(-7),
        Kind::Half => 2f64.powi(-10),
        _ => 1e-5,
    }
}

const KINDS: [Kind; 3] = [Kind::Float, Kind::BFloat16, Kind::Half];
