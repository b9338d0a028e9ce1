//! How fast this machine's memory is: the ceiling that kernels are compared with.

use std::time::Instant;

use crate::dispatch::{Choice, Level, for_level};
use crate::pages;
use crate::rows::elements;
use crate::simd::{Isa, Kernel};
use crate::threads;
use tch::{Device, Kind, TchError, Tensor};

/// Numbers read: 256 MiB, more than caches hold.
const NUMBERS: usize = 64 << 20;

/// Numbers that a thread takes at a time.
const PART: usize = 1 << 18;

/// Bytes a second at which all threads together read memory, the median of `rounds`.
///
/// # Errors
/// The kernels that were asked for are not there, or memory is too small.
pub fn read_bandwidth(rounds: usize) -> Result<f64, TchError> {
    let level = match Choice::of_process()? {
        Choice::Kernels(level) => level,
        _ => Level::available().last().copied().unwrap_or(Level::Portable),
    };
    // As weights lie.
    let mut memory = Tensor::f_empty([NUMBERS as i64], (Kind::Float, Device::Cpu))?;
    pages::prefer_large(&memory);
    let _ = memory.f_fill_(1.0)?;
    let memory = elements::<f32>(&memory)?;
    let seconds = (0..rounds).map(|_| {
        let start = Instant::now();
        for_level!(level, I => threads::for_each(NUMBERS / PART, |part| {
            // SAFETY: `for_level` names only what the processor has.
            let sum = unsafe { <I as Isa>::call(Read(&memory[part * PART..][..PART])) };
            std::hint::black_box(sum);
        }));
        start.elapsed().as_secs_f64()
    });
    Ok((NUMBERS * size_of::<f32>()) as f64 / median(seconds.collect()))
}

/// What is no number where there are none.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns when a device has done all that it was given.
pub fn wait(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

/// Bytes a second at which a device reads its memory, the median of `rounds`.
///
/// # Errors
/// As [`read_bandwidth`]; a GPU has too little memory.
pub fn read_bandwidth_of(device: Device, rounds: usize) -> Result<f64, TchError> {
    if device == Device::Cpu {
        return read_bandwidth(rounds);
    }
    // More than a GPU's caches hold, and long beside what a launch takes.
    let memory = Tensor::f_zeros([16 * NUMBERS as i64], (Kind::Float, device))?;
    let mut seconds = Vec::new();
    for _ in 0..rounds {
        wait(device);
        let start = Instant::now();
        let _ = memory.f_sum(Kind::Float)?;
        wait(device);
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok((memory.numel() * size_of::<f32>()) as f64 / median(seconds))
}

struct Read<'a>(&'a [f32]);

impl<I: Isa> Kernel<I> for Read<'_> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run(self) -> f32 {
        let step = 4 * I::LANES;
        // SAFETY: the processor has `I`; whole steps end within the slice.
        unsafe {
            let mut sums = [I::splat(0.0); 4];
            for at in (0..self.0.len() - self.0.len() % step).step_by(step) {
                for (index, sum) in sums.iter_mut().enumerate() {
                    *sum = I::add(*sum, I::load(self.0.as_ptr().add(at + index * I::LANES)));
                }
            }
            I::sums(sums).iter().sum()
        }
    }
}
