//! RMSNorm on a GPU: what `norm.cu` is launched with.
#![allow(unsafe_code, reason = "kernels are trusted with addresses")]

use tch::{TchError, Tensor};

use crate::cuda::{Argument, Machine, Program, Source, element_name, source};

const NORM: Source = source!("norm/norm.cu");

pub(crate) fn program(element: &str) -> Program {
    Program::new(&NORM, "rms_norm", 256).with("ELEMENT", element)
}

/// `None` where no kernel knows the dtype.
pub(super) fn run(
    machine: &dyn Machine,
    input: &Tensor,
    weight: &Tensor,
    eps: f64,
) -> Result<Option<Tensor>, TchError> {
    let Some(element) = element_name(input.kind()) else { return Ok(None) };
    let (tokens, hidden) = super::shape(input, weight)?;
    let output = Tensor::f_empty([tokens, hidden], (input.kind(), machine.device()))?;
    if output.numel() == 0 {
        return Ok(Some(output));
    }
    let (input, weight) = (input.f_contiguous()?, weight.f_contiguous()?);
    let arguments = [
        Argument::of(&input),
        Argument::of(&weight),
        Argument::of(&output),
        Argument::Count(hidden as u32),
        Argument::Number(eps as f32),
    ];
    // SAFETY: the arguments are the kernel's: three contiguous tensors of its dtype, of the shapes that were checked.
    unsafe { machine.launch(&program(element), [tokens as u32, 1, 1], &arguments)? };
    Ok(Some(output))
}
