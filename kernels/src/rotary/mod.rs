//! Rotary position embedding (Su et al., 2021, arXiv:2104.09864) in its half-split form.

mod append;
pub(crate) mod gpu;
#[cfg(test)]
mod tests;

use tch::{TchError, Tensor};

use crate::cuda::{self, Machine};
use crate::dispatch::{Choice, Level, for_kind, for_level};
use crate::element::Element;
use crate::rows::{Rows, RowsMut};
use crate::simd::{Isa, Kernel};
use crate::threads;

pub use append::{Room, rotate_and_append};

/// Tokens that a thread takes at a time.
const TOKENS: usize = 32;

/// Writes `data`, rotated, to `output`.
///
/// * `data`, `output`: `[tokens, heads, head_dim]`, strided as they like; `output` may be a view of a cache
/// * `cos`, `sin`: `[tokens, head_dim]`
///
/// # Errors
/// The shapes or dtypes do not fit.
pub fn rotate_into(data: &Tensor, cos: &Tensor, sin: &Tensor, output: &Tensor) -> Result<(), TchError> {
    let alike = [cos, sin, output].iter().all(|operand| operand.kind() == data.kind());
    match Choice::of([Some(data), Some(cos), Some(sin), Some(output)])? {
        Choice::Kernels(level) if alike && on(level, data, cos, sin, output)? => Ok(()),
        Choice::Gpu(index) if alike && on_gpu(cuda::gpu(index)?, data, cos, sin, output)? => Ok(()),
        _ => output.shallow_clone().f_copy_(&reference(data, &cos.f_unsqueeze(1)?, &sin.f_unsqueeze(1)?)?),
    }
}

/// `data` rotated, with torch operations: `[.., head_dim]` with tables that broadcast to it.
///
/// # Errors
/// The shapes do not fit.
pub fn reference(data: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor, TchError> {
    let halves = data.f_chunk(2, -1)?;
    let [low, high] = halves.as_slice() else {
        return Err(TchError::Shape(format!("{:?} has no two halves", data.size())));
    };
    let turned = Tensor::f_cat(&[high.f_neg()?, low.shallow_clone()], -1)?;
    data.f_mul(cos)?.f_add(&turned.f_mul(sin)?)
}

fn check(data: &Tensor, cos: &Tensor, sin: &Tensor, output: &Tensor) -> Result<(), TchError> {
    let (tokens, _, head_dim) = data.size3()?;
    let tables = [tokens, head_dim];
    if output.size() != data.size() || cos.size() != tables || sin.size() != tables || head_dim % 2 != 0 {
        return Err(TchError::Shape(format!(
            "data {:?}, tables {:?}, output {:?}",
            data.size(),
            cos.size(),
            output.size()
        )));
    }
    Ok(())
}

/// Whether a kernel knows the dtype and the layout.
fn on_gpu(machine: &dyn Machine, data: &Tensor, cos: &Tensor, sin: &Tensor, output: &Tensor) -> Result<bool, TchError> {
    check(data, cos, sin, output)?;
    gpu::rotate_into(machine, data, [cos, sin], output)
}

/// Whether a kernel knows the dtype.
fn on(level: Level, data: &Tensor, cos: &Tensor, sin: &Tensor, output: &Tensor) -> Result<bool, TchError> {
    check(data, cos, sin, output)?;
    let done = for_level!(level, I => for_kind!(data.kind(), E => run::<I, E>(data, cos, sin, output)));
    Ok(done.transpose()?.is_some())
}

fn run<I: Isa, E: Element>(data: &Tensor, cos: &Tensor, sin: &Tensor, output: &Tensor) -> Result<(), TchError> {
    let (data, output) = (Rows::<E>::of(data)?, RowsMut::<E>::of(output)?);
    let (cos, sin) = (Rows::<E>::of(cos)?, Rows::<E>::of(sin)?);
    let [tokens, heads] = data.extents();
    threads::for_each(tokens.div_ceil(TOKENS), |task| {
        for token in task * TOKENS..tokens.min((task + 1) * TOKENS) {
            for head in 0..heads {
                let input = data.row(token, head);
                // SAFETY: each row is written by one task.
                let output = unsafe { output.row(token, head, 0..input.len()) };
                // SAFETY: `for_level` names only what the processor has.
                unsafe { I::call(Row { input, cos: cos.row(0, token), sin: sin.row(0, token), output }) }
            }
        }
    });
    Ok(())
}

struct Row<'a, E> {
    input: &'a [E],
    cos: &'a [E],
    sin: &'a [E],
    output: &'a mut [E],
}

impl<I: Isa, E: Element> Kernel<I> for Row<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(self) {
        let width = self.input.len();
        assert!(self.cos.len() == width && self.sin.len() == width && self.output.len() == width);
        let half = width / 2;
        let vectors = half - half % I::LANES;
        let (input, cos, sin) = (self.input.as_ptr(), self.cos.as_ptr(), self.sin.as_ptr());
        let output = self.output.as_mut_ptr();
        // SAFETY: the processor has `I`, and vectors end within the halves of the four rows, which are of one length.
        unsafe {
            for at in (0..vectors).step_by(I::LANES) {
                let (low, high) = (E::load::<I>(input.add(at)), E::load::<I>(input.add(half + at)));
                let negated = I::sub(I::splat(0.0), high);
                let first = I::fma(negated, E::load::<I>(sin.add(at)), I::mul(low, E::load::<I>(cos.add(at))));
                let second =
                    I::fma(low, E::load::<I>(sin.add(half + at)), I::mul(high, E::load::<I>(cos.add(half + at))));
                E::store::<I>(output.add(at), first);
                E::store::<I>(output.add(half + at), second);
            }
        }
        for at in vectors..half {
            let [low, high] = [at, half + at].map(|at| self.input[at].to_f32());
            let table = |table: &[E]| [at, half + at].map(|at| table[at].to_f32());
            let (cos, sin) = (table(self.cos), table(self.sin));
            self.output[at] = E::from_f32(low * cos[0] - high * sin[0]);
            self.output[half + at] = E::from_f32(high * cos[1] + low * sin[1]);
        }
    }
}
