//! The product of a few tokens with every row of a matrix: each weight is read once, straight through.

use tch::{Kind, TchError, Tensor};

use crate::dispatch::{Level, for_kind, for_level};
use crate::element::Element;
use crate::rows::{Rows, RowsMut};
use crate::simd::{Isa, Kernel};
use crate::threads;

/// Rows whose sums are folded together.
const ROWS: usize = 4;

/// Bytes ahead of the one in use that are asked for: the processor's own look-ahead ends with a page.
const AHEAD: usize = 8192;

/// Bytes of weights that a thread takes at a time: enough to stream, few enough to share evenly.
const TASK_BYTES: usize = 32 << 10;

/// `None` where no kernel knows the dtypes.
pub(super) fn product(
    level: Level,
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
    kind: Kind,
) -> Result<Option<Tensor>, TchError> {
    let (tokens, columns) = input.size2()?;
    let (rows, depth) = weight.size2()?;
    let fits = |operand: Option<&Tensor>, size: &[i64]| operand.is_none_or(|operand| operand.size() == size);
    if columns != depth || !fits(bias, &[rows]) || !fits(residual, &[tokens, rows]) {
        return Err(TchError::Shape(format!("input {:?}, weight {:?}, bias {bias:?}", input.size(), weight.size())));
    }
    let output = Tensor::f_empty([tokens, rows], (kind, input.device()))?;
    let done = for_level!(level, I => for_kind!(weight.kind(), E => match kind {
        Kind::Float => run::<I, E, f32>(input, weight, bias, residual, &output).map(Some),
        other if other == E::KIND => run::<I, E, E>(input, weight, bias, residual, &output).map(Some),
        _ => Ok(None),
    }));
    Ok(done.transpose()?.flatten().map(|()| output))
}

fn run<I: Isa, E: Element, O: Element>(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
    output: &Tensor,
) -> Result<(), TchError> {
    let (input, weight, output) = (Rows::<E>::of(input)?, Rows::<E>::of(weight)?, RowsMut::<O>::of(output)?);
    let bias = bias.map(Rows::<E>::of).transpose()?;
    let residual = residual.map(Rows::<E>::of).transpose()?;
    let ([_, tokens], columns) = (input.extents(), input.width());
    let rows = weight.extents()[1];
    let factors = pack::<I, E>(&input);
    let per_task = (TASK_BYTES / (columns.max(1) * size_of::<E>())).next_multiple_of(ROWS).max(ROWS);
    threads::for_each(rows.div_ceil(per_task), |task| {
        let range = task * per_task..rows.min((task + 1) * per_task);
        // SAFETY: `for_level` names only what the processor has; each task has its own range of the output's columns.
        unsafe {
            I::call(Task::<I, E, O> {
                factors: &factors,
                weight: &weight,
                bias: bias.as_ref(),
                residual: residual.as_ref(),
                output: &output,
                tokens,
                range,
            })
        }
    });
    Ok(())
}

/// Input tokens as the factors of dot products, one token after another.
fn pack<I: Isa, E: Element>(input: &Rows<'_, E>) -> Vec<E::Factor<I>> {
    let ([_, tokens], columns) = (input.extents(), input.width());
    let mut factors = Vec::with_capacity(tokens * columns);
    for token in 0..tokens {
        factors.extend(input.row(0, token).iter().map(|value| value.factor::<I>()));
    }
    factors
}

struct Task<'a, I: Isa, E: Element, O: Element> {
    factors: &'a [E::Factor<I>],
    weight: &'a Rows<'a, E>,
    bias: Option<&'a Rows<'a, E>>,
    residual: Option<&'a Rows<'a, E>>,
    output: &'a RowsMut<'a, O>,
    tokens: usize,
    range: std::ops::Range<usize>,
}

impl<I: Isa, E: Element, O: Element> Kernel<I> for Task<'_, I, E, O> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(self) {
        let mut row = self.range.start;
        while row < self.range.end {
            let mut token = 0;
            while token < self.tokens {
                // SAFETY: the processor has `I`, and the task owns its columns of the output.
                unsafe {
                    match self.tokens - token {
                        1 => self.tile::<1>(row, token),
                        2 => self.tile::<2>(row, token),
                        3 => self.tile::<3>(row, token),
                        _ => self.tile::<4>(row, token),
                    }
                }
                token += 4;
            }
            row += ROWS;
        }
    }
}

impl<I: Isa, E: Element, O: Element> Task<'_, I, E, O> {
    /// Products of `N` tokens with up to [`ROWS`] rows.
    ///
    /// # Safety
    /// The processor has `I`, and the task owns its columns of the output.
    #[inline(always)]
    unsafe fn tile<const N: usize>(&self, row: usize, token: usize) {
        let columns = self.weight.width();
        let count = ROWS.min(self.range.end - row);
        // Beyond the last row, that row again; its results are not stored.
        let weights: [&[E]; ROWS] = std::array::from_fn(|index| self.weight.row(0, row + index.min(count - 1)));
        let factors: [&[E::Factor<I>]; N] =
            std::array::from_fn(|index| &self.factors[(token + index) * columns..(token + index + 1) * columns]);
        let step = E::dot_step::<I>();
        let vectors = columns - columns % step;
        // SAFETY: the processor has `I`, and steps end within the rows.
        let mut sums = unsafe {
            let mut lanes = [[I::splat(0.0); ROWS]; N];
            // For few tokens row after row, which suits the memory; for more, all rows at each step, which loads every
            // factor once for all rows.
            let together = if N < 4 { 1 } else { ROWS };
            for first in (0..ROWS).step_by(together) {
                for column in (0..vectors).step_by(step) {
                    for part in first..first + together {
                        let weights = weights[part].as_ptr();
                        I::prefetch(weights.wrapping_add(column).cast::<u8>().wrapping_add(AHEAD));
                        for index in 0..N {
                            let factors = factors[index].as_ptr().add(column);
                            lanes[index][part] = E::dot::<I>(lanes[index][part], factors, weights.add(column));
                        }
                    }
                }
            }
            let mut sums = [[0.0; ROWS]; N];
            for index in 0..N {
                sums[index] = I::sums(lanes[index]);
            }
            sums
        };
        for (sums, factors) in sums.iter_mut().zip(factors) {
            for (sum, weights) in sums.iter_mut().zip(weights) {
                for (weight, factor) in weights[vectors..].iter().zip(&factors[vectors..]) {
                    *sum += weight.to_f32() * factor.to_f32();
                }
            }
        }
        for (index, sums) in sums.iter_mut().enumerate() {
            let addends = [self.bias.map(|bias| (bias, 0)), self.residual.map(|all| (all, token + index))];
            for (addend, token) in addends.into_iter().flatten() {
                for (sum, addend) in sums.iter_mut().zip(&addend.row(0, token)[row..row + count]) {
                    *sum += addend.to_f32();
                }
            }
            // SAFETY: the task owns these columns.
            let output = unsafe { self.output.row(0, token + index, row..row + count) };
            for (output, sum) in output.iter_mut().zip(sums) {
                *output = O::from_f32(*sum);
            }
        }
    }
}
