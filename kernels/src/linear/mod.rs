//! Linear layers: `input · weightᵀ`, for a few tokens at the speed of memory.

mod rows;
#[cfg(test)]
mod tests;

use tch::{Kind, TchError, Tensor};

use crate::dispatch::{Choice, Level};

/// Tokens up to which our own product is used; libtorch's matrix products, which reuse each weight more, take over
/// beyond. They do so sooner where the processor multiplies bf16 (README.md has the times).
fn few(level: Level, kind: Kind) -> i64 {
    if level == Level::Avx512 && kind == Kind::BFloat16 { 8 } else { 12 }
}

/// `input · weightᵀ`, plus `bias` and `residual` where given, in `kind`.
///
/// * `input`: `[tokens, columns]`
/// * `weight`: `[rows, columns]`
/// * `bias`: `[rows]`
/// * `residual`: `[tokens, rows]`
///
/// Sums run in float32. The result, `[tokens, rows]`, is rounded to `kind` once.
///
/// # Errors
/// The shapes or dtypes do not fit.
pub fn linear(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
    kind: Kind,
) -> Result<Tensor, TchError> {
    let operands = [Some(input), Some(weight), bias, residual];
    let Choice::Kernels(level) = Choice::of(operands)? else {
        return reference(input, weight, bias, residual, kind);
    };
    let alike = operands.iter().flatten().all(|operand| operand.kind() == input.kind());
    if alike
        && input.size2()?.0 <= few(level, input.kind())
        && let Some(output) = rows::product(level, input, weight, bias, residual, kind)?
    {
        return Ok(output);
    }
    if level < Level::Avx512 && input.kind() != Kind::Float {
        return widened(input, weight, bias, residual, kind);
    }
    reference(input, weight, bias, residual, kind)
}

/// With torch operations.
fn reference(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
    kind: Kind,
) -> Result<Tensor, TchError> {
    let output = input.f_linear(weight, bias)?;
    match residual {
        Some(residual) => output.f_add(residual)?.f_to_kind(kind),
        None => output.f_to_kind(kind),
    }
}

/// In float32: libtorch's half-precision products are a hundred times slower where the processor has no arithmetic
/// for them, and widening the operands costs little beside a product over many tokens.
fn widened(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
    kind: Kind,
) -> Result<Tensor, TchError> {
    let bias = bias.map(|bias| bias.f_to_kind(Kind::Float)).transpose()?;
    let product = input.f_to_kind(Kind::Float)?.f_linear(&weight.f_to_kind(Kind::Float)?, bias.as_ref())?;
    match residual {
        Some(residual) => product.f_add(residual)?.f_to_kind(kind),
        None => product.f_to_kind(kind),
    }
}
