//! The order of scores: which entry is the best of its row, which the second, and so on.

#[cfg(test)]
mod tests;

use tch::{Kind, TchError, Tensor};

use crate::dispatch::Choice;
use crate::rows::{Scratch, elements};
use crate::threads;

/// Indices of each row of `scores`, `[.., n]`, from the highest score to the lowest, int64 `[.., n]`; of equal ones the
/// earlier comes first, and NaN counts as higher than everything.
///
/// # Errors
/// libtorch cannot allocate.
pub fn descending(scores: &Tensor) -> Result<Tensor, TchError> {
    let ours = scores.kind() == Kind::Float && scores.dim() > 0;
    match Choice::of([Some(scores)])? {
        Choice::Kernels(_) if ours => run(&scores.f_contiguous()?),
        _ => reference(scores),
    }
}

/// With torch operations.
fn reference(scores: &Tensor) -> Result<Tensor, TchError> {
    Ok(scores.f_sort_stable(true, -1, true)?.1)
}

fn run(scores: &Tensor) -> Result<Tensor, TchError> {
    let numbers = elements::<f32>(scores)?;
    let shape = scores.size();
    let width = shape.last().map_or(0, |&width| width as usize);
    let rows = numbers.len().checked_div(width).unwrap_or(0);
    let mut order = vec![0i64; numbers.len()];
    let shared = Scratch::of(&mut order);
    threads::for_each(rows, |row| {
        let place = row * width..(row + 1) * width;
        let mut keys: Vec<u64> = numbers[place.clone()].iter().enumerate().map(|(at, score)| key(*score, at)).collect();
        keys.sort_unstable();
        // SAFETY: rows do not overlap, and each is written by one iteration.
        let order = unsafe { shared.part(place) };
        for (index, key) in order.iter_mut().zip(keys) {
            *index = (key & u64::from(u32::MAX)) as i64;
        }
    });
    Tensor::f_from_slice(&order)?.f_view(shape.as_slice())
}

/// A number that is smaller the better an entry is: its score's bits, in an order of their own, above its index.
fn key(score: f32, at: usize) -> u64 {
    // Both zeros are one, as all NaNs are.
    let bits = if score.is_nan() { f32::NAN.to_bits() & !(1 << 31) } else { (score + 0.0).to_bits() };
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(!ascending) << 32 | at as u64
}
