//! L2 norms of vectors: keys, whose norms rank them, and values, whose norms weigh what is attended to.

pub(crate) mod gpu;
#[cfg(test)]
mod tests;

use tch::{Kind, TchError, Tensor};

use crate::cuda;
use crate::dispatch::Choice;

/// L2 norms of the vectors of `data`, `[batch, heads, tokens, width]`, summed in float32: float32
/// `[batch, heads, tokens]`.
///
/// # Errors
/// The shape does not fit.
pub fn l2(data: &Tensor) -> Result<Tensor, TchError> {
    data.size4()?;
    if let Choice::Gpu(index) = Choice::of([Some(data)])?
        && let Some(norms) = gpu::run(cuda::gpu(index)?, data)?
    {
        return Ok(norms);
    }
    reference(data)
}

/// With torch operations.
fn reference(data: &Tensor) -> Result<Tensor, TchError> {
    data.f_linalg_norm(2.0, [-1i64].as_slice(), false, Kind::Float)
}
