//! Quadratic forms of keys or values with the matrices of their query group: the logits that a normal distribution of
//! queries is expected to give (Devoto, Jeblick and Jégou, 2025, arXiv:2510.00636).

pub(crate) mod gpu;
#[cfg(test)]
mod tests;

use tch::{Kind, TchError, Tensor};

use crate::cuda;
use crate::dispatch::Choice;

/// Numbers that a part of a product may have while the processor's cache holds it.
const IN_CACHE: i64 = 1 << 18;

/// `xᵀ M x + mᵀ x` of every vector `x` of a KV head and every matrix `M`, with its row `m`, of its query group, in float32:
/// `[batch, kv_heads, group, tokens]`.
///
/// * `vectors`: `[batch, kv_heads, tokens, width]`, not repeated for the group
/// * `matrices`: `[1 or batch, kv_heads, group, width, width]`, one batch for all sequences or one for each
/// * `linear`: `[1 or batch, kv_heads, group, width]`, or none
///
/// # Errors
/// The shapes do not fit.
pub fn form(vectors: &Tensor, matrices: &Tensor, linear: Option<&Tensor>) -> Result<Tensor, TchError> {
    let (batch, kv_heads, _, width) = vectors.size4()?;
    let (own, _, group, _, _) = matrices.size5()?;
    let fits = |table: &Tensor, due: &[i64]| [1, batch].contains(&table.size()[0]) && table.size()[1..] == *due;
    if ![1, batch].contains(&own)
        || !fits(matrices, &[kv_heads, group, width, width])
        || !linear.is_none_or(|linear| fits(linear, &[kv_heads, group, width]))
    {
        return Err(TchError::Shape(format!(
            "vectors {:?}, matrices {:?}, linear {:?}",
            vectors.size(),
            matrices.size(),
            linear.map(Tensor::size)
        )));
    }
    if let Choice::Gpu(index) = Choice::of([Some(vectors), Some(matrices), linear])?
        && let Some(forms) = gpu::run(cuda::gpu(index)?, vectors, matrices, linear)?
    {
        return Ok(forms);
    }
    reference(vectors, matrices, linear)
}

/// With torch operations: some vectors at a time, so that their products with all matrices of the group, side by side,
/// stay in the processor's cache.
fn reference(vectors: &Tensor, matrices: &Tensor, linear: Option<&Tensor>) -> Result<Tensor, TchError> {
    let vectors = vectors.f_to_kind(Kind::Float)?;
    let (batch, kv_heads, _, width) = vectors.size4()?;
    let (own, _, group, _, _) = matrices.size5()?;
    let side_by_side = matrices.f_transpose(2, 3)?.f_reshape([own, kv_heads, width, group * width])?;
    let rows = (IN_CACHE / (batch * kv_heads * group * width).max(1)).max(1);
    let forms = vectors.f_split(rows, 2)?.into_iter().map(|vectors| {
        let product = vectors.f_matmul(&side_by_side)?.f_unflatten(3, [group, width])?;
        product.f_mul(&vectors.f_unsqueeze(3)?)?.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)
    });
    let forms = Tensor::f_cat(&forms.collect::<Result<Vec<_>, _>>()?, 2)?.f_transpose(2, 3)?;
    match linear {
        Some(linear) => forms.f_add(&linear.f_matmul(&vectors.f_transpose(2, 3)?)?),
        None => Ok(forms),
    }
}
