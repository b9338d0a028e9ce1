//! RMSNorm (Zhang and Sennrich, 2019, arXiv:1910.07467).

pub(crate) mod gpu;
#[cfg(test)]
mod tests;

use tch::{TchError, Tensor};

use crate::cuda;
use crate::dispatch::{Choice, Level, for_kind, for_level};
use crate::element::Element;
use crate::rows::{Rows, RowsMut};
use crate::simd::{Isa, Kernel};
use crate::threads;

/// Tokens that a thread takes at a time.
const TOKENS: usize = 32;

/// `input / sqrt(mean(input²) + eps) * weight` for each token.
///
/// * `input`: `[tokens, hidden]`
/// * `weight`: `[hidden]`
///
/// # Errors
/// The shapes do not fit.
pub fn rms_norm(input: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor, TchError> {
    match Choice::of([Some(input), Some(weight)])? {
        Choice::Kernels(level) if input.kind() == weight.kind() => match on(level, input, weight, eps)? {
            Some(output) => Ok(output),
            None => reference(input, weight, eps),
        },
        Choice::Gpu(index) if input.kind() == weight.kind() => match gpu::run(cuda::gpu(index)?, input, weight, eps)? {
            Some(output) => Ok(output),
            None => reference(input, weight, eps),
        },
        _ => reference(input, weight, eps),
    }
}

/// With torch operations.
fn reference(input: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor, TchError> {
    input.f_rms_norm(weight.size(), Some(weight), eps)
}

/// Tokens and width, which are those of the weight.
fn shape(input: &Tensor, weight: &Tensor) -> Result<(i64, i64), TchError> {
    let (tokens, hidden) = input.size2()?;
    if weight.size() != [hidden] {
        return Err(TchError::Shape(format!("input {:?}, weight {:?}", input.size(), weight.size())));
    }
    Ok((tokens, hidden))
}

/// `None` where no kernel knows the dtype.
fn on(level: Level, input: &Tensor, weight: &Tensor, eps: f64) -> Result<Option<Tensor>, TchError> {
    let (tokens, hidden) = shape(input, weight)?;
    let output = Tensor::f_empty([tokens, hidden], (input.kind(), input.device()))?;
    let done = for_level!(level, I => for_kind!(input.kind(), E => run::<I, E>(input, weight, eps as f32, &output)));
    Ok(done.transpose()?.map(|()| output))
}

fn run<I: Isa, E: Element>(input: &Tensor, weight: &Tensor, eps: f32, output: &Tensor) -> Result<(), TchError> {
    let (input, weight, output) = (Rows::<E>::of(input)?, Rows::<E>::of(weight)?, RowsMut::<E>::of(output)?);
    let tokens = input.extents()[1];
    threads::for_each(tokens.div_ceil(TOKENS), |task| {
        for token in task * TOKENS..tokens.min((task + 1) * TOKENS) {
            let input = input.row(0, token);
            // SAFETY: each token's row is written by one task.
            let output = unsafe { output.row(0, token, 0..input.len()) };
            // SAFETY: `for_level` names only what the processor has.
            unsafe { I::call(Token { input, weight: weight.row(0, 0), eps, output }) }
        }
    });
    Ok(())
}

struct Token<'a, E> {
    input: &'a [E],
    weight: &'a [E],
    eps: f32,
    output: &'a mut [E],
}

impl<I: Isa, E: Element> Kernel<I> for Token<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(self) {
        let width = self.input.len();
        assert!(self.weight.len() == width && self.output.len() == width);
        let vectors = width - width % I::LANES;
        // SAFETY: the processor has `I`, and vectors end within the three rows, which are of one length.
        unsafe {
            let mut squares = I::splat(0.0);
            for at in (0..vectors).step_by(I::LANES) {
                let value = E::load::<I>(self.input.as_ptr().add(at));
                squares = I::fma(value, value, squares);
            }
            let rest: f32 = self.input[vectors..].iter().map(|value| value.to_f32() * value.to_f32()).sum();
            let scale = 1.0 / ((I::sum(squares) + rest) / width as f32 + self.eps).sqrt();
            let factor = I::splat(scale);
            for at in (0..vectors).step_by(I::LANES) {
                let value = I::mul(E::load::<I>(self.input.as_ptr().add(at)), factor);
                let value = I::mul(value, E::load::<I>(self.weight.as_ptr().add(at)));
                E::store::<I>(self.output.as_mut_ptr().add(at), value);
            }
            for at in vectors..width {
                self.output[at] = E::from_f32(self.input[at].to_f32() * scale * self.weight[at].to_f32());
            }
        }
    }
}
