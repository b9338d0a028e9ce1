//! Rotation of channels by a Hadamard matrix: what one large channel holds is spread over all (QuaRot: Ashkboos et al.,
//! 2024, arXiv:2404.00456). Products of a rotated query with rotated keys are those of the two as they were.
//!
//! The matrix has as many rows as the largest power of two that divides the channels, whose blocks it rotates one by
//! one. It is symmetric and orthogonal: it undoes itself.

use tch::{Kind, TchError, Tensor};

/// Channels that are rotated together.
fn block(channels: usize) -> usize {
    1 << channels.trailing_zeros()
}

/// Rotates the last dimension, float32.
pub(super) fn rotate(rows: &Tensor) -> Result<Tensor, TchError> {
    let size = rows.size();
    let block = block(size.last().copied().unwrap_or(1) as usize);
    let mut matrix = Tensor::f_ones([1, 1], (Kind::Float, rows.device()))?;
    let small = Tensor::f_from_slice(&[1f32, 1.0, 1.0, -1.0])?.f_view([2, 2])?.f_to_device(rows.device())?;
    for _ in 0..block.trailing_zeros() {
        matrix = matrix.f_kron(&small)?;
    }
    let matrix = matrix.f_div_scalar((block as f64).sqrt())?;
    rows.f_reshape([-1, block as i64])?.f_matmul(&matrix)?.f_reshape(size)
}

/// Rotates a row in place.
#[inline(always)]
pub(crate) fn rotate_row(row: &mut [f32]) {
    let block = block(row.len());
    let factor = 1.0 / (block as f32).sqrt();
    for part in row.chunks_exact_mut(block) {
        let mut half = 1;
        while half < block {
            for pair in part.chunks_exact_mut(2 * half) {
                let (low, high) = pair.split_at_mut(half);
                for (low, high) in low.iter_mut().zip(high) {
                    (*low, *high) = (*low + *high, *low - *high);
                }
            }
            half *= 2;
        }
        part.iter_mut().for_each(|value| *value *= factor);
    }
}
