//! The best entries on a GPU: what `best.cu` is launched with.
#![allow(unsafe_code, reason = "kernels are trusted with addresses")]

use tch::{Kind, TchError, Tensor};

use crate::cuda::{Argument, Machine, Program, Source, source};

const BEST: Source = source!("order/best.cu");

/// A kernel of the source, `best` or `among_best`.
pub(crate) fn program(entry: &'static str) -> Program {
    Program::new(&BEST, entry, 512)
}

/// Rows and width of scores, as kernels count.
fn extents(scores: &Tensor) -> Result<[u32; 2], TchError> {
    let width = scores.size().last().copied().unwrap_or(0);
    let beyond = |_| TchError::Shape(format!("{:?} is beyond what kernels count to", scores.size()));
    let rows = scores.numel() as i64 / width.max(1);
    Ok([u32::try_from(rows).map_err(beyond)?, u32::try_from(width).map_err(beyond)?])
}

/// See [`super::best`], which has checked `count`; `size` is that of what it gives, and scores are float32.
pub(super) fn best(machine: &dyn Machine, scores: &Tensor, size: &[i64]) -> Result<Tensor, TchError> {
    let best = Tensor::f_empty(size, (Kind::Int64, machine.device()))?;
    if best.numel() == 0 {
        return Ok(best);
    }
    let scores = scores.f_contiguous()?;
    let [rows, width] = extents(&scores)?;
    let count = Argument::Count(best.numel() as u32 / rows);
    let arguments = [Argument::of(&scores), Argument::of(&best), Argument::Count(width), count];
    // SAFETY: the arguments are the kernel's: contiguous rows of scores, and room for as many indices of each, at most as
    // many as a row has entries.
    unsafe { machine.launch(&program("best"), [rows, 1, 1], &arguments)? };
    Ok(best)
}

/// See [`super::among_best`], which has checked `counts`; scores are float32.
pub(super) fn among_best(machine: &dyn Machine, scores: &Tensor, counts: &[i64]) -> Result<Tensor, TchError> {
    let marks = Tensor::f_zeros(scores.size(), (Kind::Bool, machine.device()))?;
    if marks.numel() == 0 {
        return Ok(marks);
    }
    let (scores, counts) = (scores.f_contiguous()?, Tensor::f_from_slice(counts)?.f_to_device(machine.device())?);
    let [rows, width] = extents(&scores)?;
    let arguments = [Argument::of(&scores), Argument::of(&counts), Argument::of(&marks), Argument::Count(width)];
    // SAFETY: the arguments are the kernel's: contiguous rows of scores, a count for each of at most its entries, and a byte
    // for each entry.
    unsafe { machine.launch(&program("among_best"), [rows, 1, 1], &arguments)? };
    Ok(marks)
}
