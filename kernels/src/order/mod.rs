//! The order of scores: which entry is the best of its row, which the second, and so on; and which are the best few.

pub(crate) mod gpu;
#[cfg(test)]
mod tests;

use tch::{Kind, TchError, Tensor};

use crate::cuda;
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
        Choice::Kernels(_) if ours => run(scores),
        _ => reference(scores),
    }
}

/// Indices of the best `count` of each row of `scores`, `[.., n]`, which are the first of [`descending`]: int64
/// `[.., count]`, ascending.
///
/// # Errors
/// A row has fewer entries, or libtorch cannot allocate.
pub fn best(scores: &Tensor, count: i64) -> Result<Tensor, TchError> {
    let mut size = scores.size();
    let Some(width) = size.last_mut() else { return Err(TchError::Shape("scores of no dimension".into())) };
    check_counts(&[count], *width)?;
    *width = count;
    let ours = scores.kind() == Kind::Float;
    match Choice::of([Some(scores)])? {
        Choice::Kernels(_) if ours => {
            let best = each_row(scores, count as usize, |_, keys, best: &mut [i64]| {
                let marks = marks(keys, count as usize);
                let marked = (0..).zip(marks).filter_map(|(index, marked)| marked.then_some(index));
                best.iter_mut().zip(marked).for_each(|(best, index)| *best = index);
            })?;
            Tensor::f_from_slice(&best)?.f_view(size.as_slice())
        }
        Choice::Gpu(index) if ours => gpu::best(cuda::gpu(index)?, scores, &size),
        _ => Ok(reference(scores)?.f_narrow(-1, 0, count)?.f_sort(-1, false)?.0),
    }
}

/// Whether an entry is among the best of its row of `scores`, `[rows, n]`, of which each has a count of its own: bool
/// `[rows, n]`.
///
/// # Errors
/// There are not as many counts as rows, a row has fewer entries, or libtorch cannot allocate.
pub fn among_best(scores: &Tensor, counts: &[i64]) -> Result<Tensor, TchError> {
    let (rows, width) = scores.size2()?;
    check_counts(counts, width)?;
    if counts.len() as i64 != rows {
        return Err(TchError::Shape(format!("{} counts for {rows} rows", counts.len())));
    }
    let ours = scores.kind() == Kind::Float;
    match Choice::of([Some(scores)])? {
        Choice::Kernels(_) if ours => {
            let among = each_row(scores, width as usize, |row, keys, among: &mut [bool]| {
                among.copy_from_slice(&marks(keys, counts[row] as usize));
            })?;
            Tensor::f_from_slice(&among)?.f_view([rows, width])
        }
        Choice::Gpu(index) if ours => gpu::among_best(cuda::gpu(index)?, scores, counts),
        _ => {
            let here = (Kind::Int64, scores.device());
            let counts = Tensor::f_from_slice(counts)?.f_to_device(scores.device())?.f_unsqueeze(1)?;
            let among = Tensor::f_arange(width, here)?.f_lt_tensor(&counts)?;
            among.f_scatter(1, &reference(scores)?, &among)
        }
    }
}

fn check_counts(counts: &[i64], width: i64) -> Result<(), TchError> {
    match counts.iter().find(|count| !(0..=width).contains(*count)) {
        Some(count) => Err(TchError::Shape(format!("the best {count} of {width} scores"))),
        None => Ok(()),
    }
}

/// With torch operations.
fn reference(scores: &Tensor) -> Result<Tensor, TchError> {
    Ok(scores.f_sort_stable(true, -1, true)?.1)
}

fn run(scores: &Tensor) -> Result<Tensor, TchError> {
    let width = scores.size().last().map_or(0, |&width| width as usize);
    let order = each_row(scores, width, |_, keys, order: &mut [i64]| {
        keys.sort_unstable();
        for (index, key) in order.iter_mut().zip(keys) {
            *index = place(*key) as i64;
        }
    })?;
    Tensor::f_from_slice(&order)?.f_view(scores.size().as_slice())
}

/// Whether each of a row's entries is among the best `count`.
fn marks(keys: &mut [u64], count: usize) -> Vec<bool> {
    if count < keys.len() {
        keys.select_nth_unstable(count);
    }
    let mut marks = vec![false; keys.len()];
    keys[..count].iter().for_each(|key| marks[place(*key)] = true);
    marks
}

/// `width` numbers for each row of `scores`, which `fill` makes of the row's index and keys.
fn each_row<T: Copy + Default + Send>(
    scores: &Tensor,
    width: usize,
    fill: impl Fn(usize, &mut [u64], &mut [T]) + Sync,
) -> Result<Vec<T>, TchError> {
    let entries = scores.size().last().map_or(0, |&entries| entries as usize);
    let scores = scores.f_contiguous()?;
    let numbers = elements::<f32>(&scores)?;
    let rows = numbers.len().checked_div(entries).unwrap_or(0);
    let mut filled = vec![T::default(); rows * width];
    let shared = Scratch::of(&mut filled);
    threads::for_each(rows, |row| {
        let scores = &numbers[row * entries..(row + 1) * entries];
        let mut keys: Vec<u64> = scores.iter().enumerate().map(|(at, score)| key(*score, at)).collect();
        // SAFETY: rows do not overlap, and each is written by one iteration.
        fill(row, &mut keys, unsafe { shared.part(row * width..(row + 1) * width) });
    });
    Ok(filled)
}

/// A number that is smaller the better an entry is: its score's bits, in an order of their own, above its index.
fn key(score: f32, at: usize) -> u64 {
    // Both zeros are one, as all NaNs are.
    let bits = if score.is_nan() { f32::NAN.to_bits() & !(1 << 31) } else { (score + 0.0).to_bits() };
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(!ascending) << 32 | at as u64
}

/// The index that a key is of.
fn place(key: u64) -> usize {
    (key & u64::from(u32::MAX)) as usize
}
