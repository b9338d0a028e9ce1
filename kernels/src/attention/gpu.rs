//! Attention of new tokens on a GPU: what `stream.cu`, `packed.cu` and `merge.cu` are launched with.
#![allow(unsafe_code, reason = "kernels are trusted with addresses")]

use std::f64::consts::LOG2_E;

use tch::{Kind, TchError, Tensor};

use super::Sequence;
use super::geometry::{Plan, Shape, Storage};
use crate::cuda::{Argument, Machine, Program, Source, element_name, source, upload};
use crate::quantized::KeySteps;

const STREAM: Source = source!("attention/stream.cu");
const PACKED: Source = source!("attention/packed.cu");
const MERGE: Source = source!("attention/merge.cu");

/// Most channels of a value: what its warps have found is in a block's 48 KiB of shared memory.
const WIDEST: i64 = 256;

/// Threads of a block.
const THREADS: u32 = 128;

/// The program that attends over spans of one shape, `rows` query rows a block.
fn over(shape: &Shape, element: &str, head_dim: i64, rows: u32) -> Program {
    let source = if matches!(shape.storage, Storage::Packed(_)) { &PACKED } else { &STREAM };
    let program = Program::new(source, "attend", THREADS)
        .with("ELEMENT", element)
        .with("HEAD_DIM", head_dim)
        .with("KEY_DIM", shape.key_dim)
        .with("ROWS", rows);
    match shape.storage {
        Storage::Rows { aligned } => program.with("ALIGNED", aligned),
        Storage::Packed(format) => program
            .with("BITS", format.bits.count())
            .with("GROUP", format.group)
            .with("PER_TOKEN", format.keys == KeySteps::PerToken)
            .with("HADAMARD", format.hadamard),
    }
}

/// The program that merges what those give.
fn merge(element: &str, head_dim: i64) -> Program {
    Program::new(&MERGE, "merge", THREADS).with("ELEMENT", element).with("HEAD_DIM", head_dim)
}

/// See [`super::attend_parts`], which has checked that the parts fit. `None` where no kernel knows the dtype or head_dim.
pub(crate) fn attend(
    machine: &dyn Machine,
    query: &Tensor,
    sequences: &[Sequence<'_>],
    kv_heads: i64,
    scale: f64,
) -> Result<Option<Tensor>, TchError> {
    let (tokens, heads, head_dim) = query.size3()?;
    let Some(element) = element_name(query.kind()).filter(|_| head_dim <= WIDEST) else { return Ok(None) };
    let plan = Plan::of(sequences, heads, kv_heads, head_dim)?;
    let output = Tensor::f_empty([tokens, heads * head_dim], (query.kind(), machine.device()))?;
    if output.numel() == 0 {
        return Ok(Some(output));
    }
    let query = query.f_contiguous()?;
    let partials = Tensor::f_empty([plan.numbers as i64], (Kind::Float, machine.device()))?;
    let group = (heads / kv_heads) as u32;
    let heads = heads as u32;
    // 2 is the base of the weights.
    let scale = (scale * LOG2_E) as f32;
    for (shape, spans) in &plan.spans {
        let chunks = spans.iter().map(|span| span.chunks()).max().unwrap_or(0);
        if chunks == 0 {
            continue;
        }
        let table = upload(machine, spans)?;
        let rows = shape.rows_of_block(plan.rows());
        let program = over(shape, element, head_dim, rows);
        let arguments = [
            Argument::of(&table),
            Argument::of(&query),
            Argument::of(&partials),
            Argument::Count(heads),
            Argument::Count(group),
            Argument::Number(scale),
        ];
        let grid = [plan.rows().div_ceil(rows), chunks, spans.len() as u32];
        // SAFETY: the arguments are the kernel's. Spans cover rows that their parts were checked to have, and partial
        // results that the plan has counted; the query has the tokens and heads that spans name.
        unsafe { machine.launch(&program, grid, &arguments)? };
    }
    let table = upload(machine, &plan.groups)?;
    let arguments = [
        Argument::of(&table),
        Argument::of(&partials),
        Argument::of(&output),
        Argument::Count(heads),
        Argument::Count(group),
    ];
    let grid = [plan.rows(), plan.groups.len() as u32, 1];
    // SAFETY: the arguments are the kernel's. Groups cover the partial results that the plan has counted, all of which
    // are written before, and the output has their rows.
    unsafe { machine.launch(&merge(element, head_dim), grid, &arguments)? };
    Ok(Some(output))
}

/// Programs of the shapes that models have.
#[cfg(test)]
pub(crate) fn programs() -> Vec<Program> {
    use crate::quantized::{Bits, Format};

    let mut programs = Vec::new();
    for element in ["float", "bf16", "f16"] {
        for (head_dim, key_dim, rows, aligned) in
            [(64, 64, 4, true), (128, 128, 4, true), (128, 64, 2, true), (256, 256, 4, true), (80, 80, 1, false)]
        {
            let shape = Shape { key_dim, storage: Storage::Rows { aligned } };
            programs.push(over(&shape, element, head_dim, rows));
        }
        programs.push(merge(element, 128));
    }
    let kivi = |bits| Format { bits, group: 64, keys: KeySteps::PerChannel, hadamard: false };
    let turned = |bits| Format { keys: KeySteps::PerToken, hadamard: true, ..kivi(bits) };
    for (element, head_dim, key_dim, format) in [
        ("float", 128, 128, kivi(Bits::Four)),
        ("f16", 80, 80, Format { group: 48, ..turned(Bits::Two) }),
        ("bf16", 128, 128, kivi(Bits::Eight)),
        ("bf16", 128, 128, kivi(Bits::Four)),
        ("bf16", 128, 128, kivi(Bits::Two)),
        ("bf16", 128, 64, turned(Bits::Four)),
        ("bf16", 64, 64, kivi(Bits::Four)),
        ("bf16", 256, 256, turned(Bits::Eight)),
    ] {
        let shape = Shape { key_dim, storage: Storage::Packed(format) };
        programs.push(over(&shape, element, head_dim, shape.rows_of_block(1)));
    }
    programs
}
