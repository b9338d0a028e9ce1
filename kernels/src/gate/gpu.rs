//! The gate on a GPU: what `gate.cu` is launched with.
#![allow(unsafe_code, reason = "kernels are trusted with addresses")]

use tch::{TchError, Tensor};

use crate::cuda::{Argument, Machine, Program, Source, element_name, source};

const GATE: Source = source!("gate/gate.cu");

/// Most blocks along the second axis of a grid.
const TOKENS: i64 = 1 << 15;

pub(crate) fn program(element: &str) -> Program {
    Program::new(&GATE, "silu_mul", 256).with("ELEMENT", element)
}

/// `None` where no kernel knows the dtype.
pub(super) fn run(machine: &dyn Machine, input: &Tensor) -> Result<Option<Tensor>, TchError> {
    let Some(element) = element_name(input.kind()) else { return Ok(None) };
    let (tokens, width) = super::shape(input)?;
    let output = Tensor::f_empty([tokens, width], (input.kind(), machine.device()))?;
    let input = input.f_contiguous()?;
    let program = program(element);
    for first in (0..tokens).step_by(TOKENS as usize).filter(|_| width > 0) {
        let count = TOKENS.min(tokens - first);
        let (input, output) = (input.f_narrow(0, first, count)?, output.f_narrow(0, first, count)?);
        let arguments = [Argument::of(&input), Argument::of(&output), Argument::Count(width as u32)];
        let grid = [(width as u32).div_ceil(program.threads), count as u32, 1];
        // SAFETY: the arguments are the kernel's: contiguous rows of its dtype, of twice the width and the width.
        unsafe { machine.launch(&program, grid, &arguments)? };
    }
    Ok(Some(output))
}
