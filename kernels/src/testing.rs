//! What the property tests share: random tensors in awkward layouts, rounding units, and the stamp.

use tch::{Device, Kind, Tensor};

use crate::cuda::tests::emulator::Emulator;
use crate::dispatch::Level;

/// Unit roundoff of a dtype: half the distance from 1 to the next larger number.
pub(crate) fn unit(kind: Kind) -> f64 {
    match kind {
        Kind::BFloat16 => 2f64.powi(-8),
        Kind::Half => 2f64.powi(-11),
        _ => 2f64.powi(-24),
    }
}

/// Uniform values in `[-magnitude, magnitude)`, the same for a seed.
pub(crate) fn random(seed: u64, shape: &[i64], magnitude: f64, kind: Kind) -> Tensor {
    // A generator of our own: libtorch's is global, and tests run side by side.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let count = shape.iter().product::<i64>() as usize;
    let values: Vec<f32> = (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f64 / (1u64 << 23) as f64 - 1.0) as f32 * magnitude as f32
        })
        .collect();
    Tensor::from_slice(&values).view(shape).to_kind(kind)
}

/// The same values, at an address that is aligned for single elements only.
pub(crate) fn misaligned(tensor: &Tensor) -> Tensor {
    let room = Tensor::zeros([tensor.numel() as i64 + 1], (tensor.kind(), Device::Cpu));
    let view = room.narrow(0, 1, tensor.numel() as i64).view(tensor.size().as_slice());
    view.shallow_clone().copy_(tensor);
    view
}

/// The same values, with a gap after each row.
pub(crate) fn gapped(tensor: &Tensor) -> Tensor {
    let mut size = tensor.size();
    let Some(last) = size.last_mut() else { return tensor.shallow_clone() };
    let width = *last;
    *last += 3;
    let room = Tensor::zeros(size.as_slice(), (tensor.kind(), Device::Cpu));
    let view = room.narrow(-1, 1, width);
    view.shallow_clone().copy_(tensor);
    view
}

/// The same values, with the last dimension strided.
pub(crate) fn transposed(tensor: &Tensor) -> Tensor {
    let last = tensor.dim() as i64 - 1;
    if last == 0 { tensor.shallow_clone() } else { tensor.transpose(0, last).contiguous().transpose(0, last) }
}

/// One of the layouts above, or none.
pub(crate) fn arranged(tensor: &Tensor, arrangement: u8) -> Tensor {
    match arrangement % 4 {
        0 => tensor.shallow_clone(),
        1 => misaligned(tensor),
        2 => gapped(tensor),
        _ => transposed(tensor),
    }
}

/// Runs `body` with a number of threads of its own.
pub(crate) fn with_threads<T>(threads: i32, body: impl FnOnce() -> T) -> T {
    let before = tch::get_num_threads();
    tch::set_num_threads(threads);
    let result = body();
    tch::set_num_threads(before);
    result
}

/// Largest absolute value.
pub(crate) fn largest(tensor: &Tensor) -> f64 {
    if tensor.numel() == 0 { 0.0 } else { tensor.abs().max().double_value(&[]) }
}

/// Largest absolute difference; NaN differs from everything.
pub(crate) fn distance(ours: &Tensor, exact: &Tensor) -> f64 {
    assert_eq!(ours.size(), exact.size());
    let off = largest(&(ours.to_kind(Kind::Double) - exact.to_kind(Kind::Double)));
    if off.is_nan() { f64::INFINITY } else { off }
}

/// What a GPU's kernels compute, whichever of their threads come first.
pub(crate) fn emulated<T: PartialEq + std::fmt::Debug>(run: impl Fn(&Emulator) -> T) -> T {
    let [forward, backward] = [false, true].map(|reversed| run(&Emulator { reversed }));
    assert_eq!(forward, backward, "the order of the threads changes the result");
    forward
}

/// Whether this processor has a level; says so where it has not.
pub(crate) fn has(level: Level) -> bool {
    let available = Level::available().contains(&level);
    if !available {
        println!("not run: this processor has no {}", level.name());
    }
    available
}

/// Stamps a property, `fn(Level, Kind)`, on every instruction set and dtype.
macro_rules! stamp {
    ($($property:ident),* $(,)?) => {$(
        mod $property {
            $crate::testing::stamp!(@levels $property portable Portable, avx2 Avx2, avx512 Avx512);
        }
    )*};
    (@levels $property:ident $($module:ident $level:ident),*) => {$(
        mod $module {
            use $crate::dispatch::Level;

            #[test]
            fn f32() {
                if $crate::testing::has(Level::$level) {
                    super::super::$property(Level::$level, tch::Kind::Float);
                }
            }

            #[test]
            fn bf16() {
                if $crate::testing::has(Level::$level) {
                    super::super::$property(Level::$level, tch::Kind::BFloat16);
                }
            }

            #[test]
            fn f16() {
                if $crate::testing::has(Level::$level) {
                    super::super::$property(Level::$level, tch::Kind::Half);
                }
            }
        }
    )*};
}
pub(crate) use stamp;

/// Stamps a property of a GPU's kernels, `fn(Kind)`, on every dtype.
macro_rules! stamp_gpu {
    ($property:ident) => {
        mod on_a_gpu {
            #[test]
            fn f32() {
                super::$property(tch::Kind::Float);
            }

            #[test]
            fn bf16() {
                super::$property(tch::Kind::BFloat16);
            }

            #[test]
            fn f16() {
                super::$property(tch::Kind::Half);
            }
        }
    };
}
pub(crate) use stamp_gpu;
