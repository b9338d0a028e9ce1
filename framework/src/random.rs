//! Seeded random tensors from libtorch's own generator, the one that PyTorch's seeds refer to.

use std::sync::{Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// libtorch's default generator is one per process: seeding and drawing must not interleave.
static GENERATOR: Mutex<()> = Mutex::new(());

/// Uniform float32 values in `[0, 1)`: what `torch.rand` gives on the CPU after `manual_seed(seed)`.
///
/// # Errors
/// libtorch cannot allocate.
pub fn uniform(seed: u64, shape: &[i64], device: Device) -> Result<Tensor> {
    draw(seed, device, |options| Tensor::f_rand(shape, options))
}

/// Normal float32 values of mean 0 and variance 1: what `torch.randn` gives on the CPU after `manual_seed(seed)`.
///
/// # Errors
/// libtorch cannot allocate.
pub fn normal(seed: u64, shape: &[i64], device: Device) -> Result<Tensor> {
    draw(seed, device, |options| Tensor::f_randn(shape, options))
}

fn draw(seed: u64, device: Device, sample: impl Fn((Kind, Device)) -> Result<Tensor, tch::TchError>) -> Result<Tensor> {
    let _guard = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed as i64);
    Ok(sample((Kind::Float, Device::Cpu))?.f_to_device(device)?)
}

/// A seed of its own for part `index` of something seeded with `seed` (SplitMix64, Steele et al., 2014).
pub fn derive_seed(seed: u64, index: u64) -> u64 {
    let mut mixed = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_values_even_beside_other_draws() {
        let draw = |seed| Vec::<f32>::try_from(uniform(seed, &[64], Device::Cpu).unwrap()).unwrap();
        let expected = draw(7);
        let threads: Vec<_> = (0..8).map(|i| std::thread::spawn(move || (i, draw(7), draw(i)))).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap().1, expected);
        }
        assert_ne!(draw(8), expected);
    }

    #[test]
    fn derived_seeds_differ() {
        let seeds: std::collections::HashSet<u64> =
            (0..100).flat_map(|s| (0..100).map(move |i| derive_seed(s, i))).collect();
        assert_eq!(seeds.len(), 10_000);
    }
}
