//! Keeping rows on a GPU: what `keep.cu` is launched with.
#![allow(unsafe_code, reason = "kernels are trusted with addresses")]

use tch::{Kind, TchError, Tensor};

use crate::cuda::{Argument, HeadRows, Machine, Program, Source, source};

const KEEP: Source = source!("keep/keep.cu");

/// The program that copies words of as many bytes: 1, 2, 4, 8 or 16.
pub(crate) fn program(word: u64) -> Program {
    let word = match word {
        1 => "u8",
        2 => "u16",
        4 => "u32",
        8 => "u64",
        _ => "uint4",
    };
    Program::new(&KEEP, "keep", 256).with("WORD", word)
}

/// See [`super::rows`], which has checked the offsets. `None` where an index is out of range.
pub(super) fn rows(
    machine: &dyn Machine,
    data: &Tensor,
    indices: &Tensor,
    offsets: &[i64],
) -> Result<Option<Tensor>, TchError> {
    let width = data.size3()?.2;
    let kept = Tensor::f_empty([indices.size1()?, width], (data.kind(), machine.device()))?;
    if kept.numel() == 0 {
        return Ok(Some(kept));
    }
    let (_copy, from) = HeadRows::of_or_copy(&data.f_unsqueeze(0)?)?;
    let indices = indices.f_contiguous()?;
    let word = from.word();
    let (words, count) = from.in_words(word)?;
    let program = program(word);
    let longest = offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    let blocks = (longest as u64 * u64::from(count)).div_ceil(u64::from(program.threads));
    let blocks = u32::try_from(blocks).map_err(|_| TchError::Shape(format!("{longest} rows are beyond one launch")))?;
    let offsets = Tensor::f_from_slice(offsets)?.f_to_device(machine.device())?;
    let beyond = Tensor::f_zeros([1], (Kind::Int, machine.device()))?;
    let arguments = [
        Argument::Rows(words),
        Argument::of(&indices),
        Argument::of(&offsets),
        Argument::of(&kept),
        Argument::of(&beyond),
        Argument::Count(from.heads()?),
        Argument::Count(from.extents[2]),
        Argument::Count(count),
    ];
    // SAFETY: the arguments are the kernel's. Offsets ascend to the number of indices, for each of which there is a row
    // of `kept`; the kernel checks what the indices name.
    unsafe { machine.launch(&program, [blocks, from.heads()?, 1], &arguments)? };
    Ok((beyond.f_int64_value(&[0])? == 0).then_some(kept))
}
