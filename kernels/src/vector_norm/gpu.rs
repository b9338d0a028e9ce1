//! Norms of vectors on a GPU: what `norm.cu` is launched with.
#![allow(unsafe_code, reason = "kernels are trusted with addresses")]

use tch::{Kind, TchError, Tensor};

use crate::cuda::{Argument, HeadRows, Machine, Program, Source, element_name, source};

const NORM: Source = source!("vector_norm/norm.cu");

/// Lanes of a row, at most: a warp's.
const WARP: u32 = 32;

pub(crate) fn program(element: &str, width: u32, aligned: bool) -> Program {
    let program = Program::new(&NORM, "norms", 256);
    program.with("ELEMENT", element).with("CHANNELS", width).with("ALIGNED", aligned)
}

/// `None` where no kernel knows the dtype.
pub(super) fn run(machine: &dyn Machine, data: &Tensor) -> Result<Option<Tensor>, TchError> {
    let Some(element) = element_name(data.kind()) else { return Ok(None) };
    let (batch, heads, tokens, width) = data.size4()?;
    let norms = Tensor::f_zeros([batch, heads, tokens], (Kind::Float, machine.device()))?;
    if norms.numel() == 0 || width == 0 {
        return Ok(Some(norms));
    }
    let (_copy, rows) = HeadRows::of_or_copy(data)?;
    let program = program(element, rows.width, rows.aligned());
    let [_, heads, tokens] = rows.extents;
    let blocks = u64::from(tokens) * u64::from(lanes(rows.width, rows.aligned(), data.kind()));
    let blocks = blocks.div_ceil(u64::from(program.threads)) as u32;
    let arguments = [Argument::Rows(rows.rows), Argument::of(&norms), Argument::Count(heads), Argument::Count(tokens)];
    // SAFETY: the arguments are the kernel's: rows of its dtype and width, and a number for each.
    unsafe { machine.launch(&program, [blocks, rows.heads()?, 1], &arguments)? };
    Ok(Some(norms))
}

/// Lanes of a row, as `Lanes` of rows.cuh has them.
fn lanes(width: u32, aligned: bool, kind: Kind) -> u32 {
    let vector = if aligned { 16 / kind.elt_size_in_bytes() as u32 } else { 1 };
    width.div_ceil(vector).next_power_of_two().min(WARP)
}
