//! Quadratic forms on a GPU: what `form.cu` is launched with.
#![allow(unsafe_code, reason = "kernels are trusted with addresses")]

use tch::{Kind, TchError, Tensor};

use crate::cuda::{Argument, HEADS, HeadRows, Machine, Program, Rows, Source, TILE, element_name, source};

const FORM: Source = source!("quadratic/form.cu");

pub(crate) fn program(element: &str) -> Program {
    Program::new(&FORM, "forms", 256).with("ELEMENT", element)
}

/// See [`super::form`], which has checked the shapes. `None` where no kernel knows the vectors' dtype.
pub(super) fn run(
    machine: &dyn Machine,
    vectors: &Tensor,
    matrices: &Tensor,
    linear: Option<&Tensor>,
) -> Result<Option<Tensor>, TchError> {
    let Some(element) = element_name(vectors.kind()) else { return Ok(None) };
    let (batch, kv_heads, tokens, width) = vectors.size4()?;
    let group = matrices.size5()?.2;
    let forms = Tensor::f_zeros([batch, kv_heads, group, tokens], (Kind::Float, machine.device()))?;
    if forms.numel() == 0 || width == 0 {
        return Ok(Some(forms));
    }
    let (_copy, rows) = HeadRows::of_or_copy(vectors)?;
    let every_sequence = |table: &Tensor, rows: i64| {
        let shape = [table.size()[0], kv_heads * group, rows, width];
        let table = table.f_to_kind(Kind::Float)?.f_reshape(shape)?;
        table.f_expand([batch, -1, -1, -1], false)
    };
    let (_matrices, matrix_rows) = HeadRows::of_or_copy(&every_sequence(matrices, width)?)?;
    let linear = linear.map(|linear| HeadRows::of_or_copy(&every_sequence(linear, 1)?)).transpose()?;
    let group = u32::try_from(group).ok().filter(|group| *group <= HEADS);
    let group = group.ok_or_else(|| TchError::Shape(format!("{:?} are too many matrices", matrices.size())))?;
    let [_, heads, tokens] = rows.extents;
    let arguments = [
        Argument::Rows(rows.rows),
        Argument::Rows(matrix_rows.rows),
        Argument::Rows(linear.as_ref().map_or(Rows::NONE, |(_, linear)| linear.rows)),
        Argument::of(&forms),
        Argument::Count(heads),
        Argument::Count(group),
        Argument::Count(tokens),
        Argument::Count(rows.width),
    ];
    let grid = [tokens.div_ceil(TILE), group, rows.heads()?];
    // SAFETY: the arguments are the kernel's: vectors of its dtype, a matrix and a row of as many channels for each query
    // head, and a number for each of its vectors.
    unsafe { machine.launch(&program(element), grid, &arguments)? };
    Ok(Some(forms))
}
