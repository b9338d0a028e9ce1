//! New tokens of a batch on their way into their caches.

use tch::{TchError, Tensor};

use super::{gpu, rotate_into};
use crate::cuda;
use crate::dispatch::Choice;

/// Where the keys and values of one sequence's new tokens go.
#[derive(Debug)]
pub struct Room {
    /// `[kv_heads, n, head_dim]`, a view of a cache
    pub keys: Tensor,
    /// The same for the values.
    pub values: Tensor,
}

impl Room {
    /// New tokens of the sequence.
    pub(super) fn tokens(&self) -> Result<i64, TchError> {
        Ok(self.keys.size3()?.1)
    }
}

/// Writes the keys of a batch's new tokens, rotated, and their values to the sequences' rooms, and gives the queries,
/// rotated.
///
/// * `queries`, `keys`, `values`: `[Σ tokens, heads, head_dim]`, one sequence after another
/// * `cos`, `sin`: `[Σ tokens, head_dim]`
///
/// # Errors
/// The shapes or dtypes do not fit.
pub fn rotate_and_append(
    [queries, keys, values]: [&Tensor; 3],
    [cos, sin]: [&Tensor; 2],
    rooms: &[Room],
) -> Result<Tensor, TchError> {
    let tokens = rooms.iter().map(Room::tokens).sum::<Result<i64, _>>()?;
    if [queries, keys, values].iter().any(|data| data.size().first() != Some(&tokens)) {
        return Err(TchError::Shape(format!(
            "queries {:?}, keys {:?}, values {:?} for {tokens} tokens",
            queries.size(),
            keys.size(),
            values.size()
        )));
    }
    let written = rooms.iter().flat_map(|room| [&room.keys, &room.values]);
    let operands = [queries, keys, values, cos, sin].into_iter().chain(written);
    let alike = operands.clone().all(|operand| operand.kind() == queries.kind());
    if let Choice::Gpu(index) = Choice::of(operands.map(Some))?
        && alike
        && let Some(rotated) = gpu::rotate_and_append(cuda::gpu(index)?, [queries, keys, values], [cos, sin], rooms)?
    {
        return Ok(rotated);
    }
    let rotated = Tensor::f_empty(queries.size(), (queries.kind(), queries.device()))?;
    rotate_into(queries, cos, sin, &rotated)?;
    let mut first = 0;
    for room in rooms {
        let count = room.tokens()?;
        let own = |data: &Tensor| data.f_narrow(0, first, count);
        rotate_into(&own(keys)?, &own(cos)?, &own(sin)?, &room.keys.f_transpose(0, 1)?)?;
        room.values.f_transpose(0, 1)?.f_copy_(&own(values)?)?;
        first += count;
    }
    Ok(rotated)
}
