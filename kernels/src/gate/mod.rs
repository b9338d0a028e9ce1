//! The gate of a Llama's MLP: `silu(gate) * up` (SwiGLU; Shazeer, 2020, arXiv:2002.05202).

pub(crate) mod gpu;
#[cfg(test)]
mod tests;

use tch::{TchError, Tensor};

use crate::cuda;
use crate::dispatch::{Choice, Level, for_kind, for_level};
use crate::element::Element;
use crate::rows::{Rows, RowsMut};
use crate::simd::{self, Isa, Kernel};
use crate::threads;

/// Tokens that a thread takes at a time.
const TOKENS: usize = 16;

/// `silu(input[.., ..width]) * input[.., width..]`: `[tokens, 2 width]` to `[tokens, width]`.
///
/// # Errors
/// The shape does not fit.
pub fn silu_mul(input: &Tensor) -> Result<Tensor, TchError> {
    match Choice::of([Some(input)])? {
        Choice::Kernels(level) => match on(level, input)? {
            Some(output) => Ok(output),
            None => reference(input),
        },
        Choice::Gpu(index) => match gpu::run(cuda::gpu(index)?, input)? {
            Some(output) => Ok(output),
            None => reference(input),
        },
        Choice::Reference => reference(input),
    }
}

/// With torch operations.
fn reference(input: &Tensor) -> Result<Tensor, TchError> {
    let width = input.size2()?.1 / 2;
    input.f_narrow(1, 0, width)?.f_silu()?.f_mul(&input.f_narrow(1, width, width)?)
}

/// Tokens and width of the output.
fn shape(input: &Tensor) -> Result<(i64, i64), TchError> {
    let (tokens, width) = input.size2()?;
    if width % 2 != 0 {
        return Err(TchError::Shape(format!("{:?} has no two halves", input.size())));
    }
    Ok((tokens, width / 2))
}

/// `None` where no kernel knows the dtype.
fn on(level: Level, input: &Tensor) -> Result<Option<Tensor>, TchError> {
    let (tokens, width) = shape(input)?;
    let output = Tensor::f_empty([tokens, width], (input.kind(), input.device()))?;
    let done = for_level!(level, I => for_kind!(input.kind(), E => run::<I, E>(input, &output)));
    Ok(done.transpose()?.map(|()| output))
}

fn run<I: Isa, E: Element>(input: &Tensor, output: &Tensor) -> Result<(), TchError> {
    let (input, output) = (Rows::<E>::of(input)?, RowsMut::<E>::of(output)?);
    let tokens = input.extents()[1];
    threads::for_each(tokens.div_ceil(TOKENS), |task| {
        for token in task * TOKENS..tokens.min((task + 1) * TOKENS) {
            let (gate, up) = input.row(0, token).split_at(input.width() / 2);
            // SAFETY: each token's row is written by one task.
            let output = unsafe { output.row(0, token, 0..up.len()) };
            // SAFETY: `for_level` names only what the processor has.
            unsafe { I::call(Token { gate, up, output }) }
        }
    });
    Ok(())
}

struct Token<'a, E> {
    gate: &'a [E],
    up: &'a [E],
    output: &'a mut [E],
}

impl<I: Isa, E: Element> Kernel<I> for Token<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(self) {
        let width = self.gate.len();
        assert!(self.up.len() == width && self.output.len() == width);
        let vectors = width - width % I::LANES;
        // SAFETY: the processor has `I`, and vectors end within the three rows, which are of one length.
        unsafe {
            for at in (0..vectors).step_by(I::LANES) {
                let gated = simd::silu::<I>(E::load::<I>(self.gate.as_ptr().add(at)));
                let value = I::mul(gated, E::load::<I>(self.up.as_ptr().add(at)));
                E::store::<I>(self.output.as_mut_ptr().add(at), value);
            }
        }
        for at in vectors..width {
            let gate = self.gate[at].to_f32();
            self.output[at] = E::from_f32(gate / (1.0 + (-gate).exp()) * self.up[at].to_f32());
        }
    }
}
