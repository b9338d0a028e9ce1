//! Rotary embedding on a GPU: what `rotate.cu` is launched with.
#![allow(unsafe_code, reason = "kernels are trusted with addresses")]

use tch::{TchError, Tensor};

use super::Room;
use crate::cuda::{Argument, Machine, Program, Record, Source, element_name, source, upload};

const ROTATE: Source = source!("rotary/rotate.cu");

/// Rows of some tokens on their way, with strides in elements.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Job {
    from: u64,
    to: u64,
    from_strides: [u64; 2],
    to_strides: [u64; 2],
    tokens: u32,
    heads: u32,
    first: u32,
    rotate: u32,
}

// SAFETY: six numbers of eight bytes, then four of four: 64 bytes without a gap.
unsafe impl Record for Job {}

impl Job {
    /// From `[tokens, heads, head_dim]` to the same. Tokens count from `first` in the tables, if they are rotated.
    fn of(from: &Tensor, to: &Tensor, first: i64, rotate: bool) -> Result<Self, TchError> {
        let (tokens, heads, head_dim) = from.size3()?;
        let strides = |data: &Tensor| -> Result<[u64; 2], TchError> {
            let (token, head, _) = data.stride3()?;
            Ok([token as u64, head as u64])
        };
        let dense = |data: &Tensor| data.stride3().is_ok_and(|(_, _, column)| column == 1 || head_dim <= 1);
        if to.size() != from.size() || to.kind() != from.kind() || !dense(from) || !dense(to) {
            return Err(TchError::Shape(format!("rows {:?} to {:?}", from.size(), to.size())));
        }
        Ok(Self {
            from: from.data_ptr() as u64,
            to: to.data_ptr() as u64,
            from_strides: strides(from)?,
            to_strides: strides(to)?,
            tokens: tokens as u32,
            heads: heads as u32,
            first: first as u32,
            rotate: u32::from(rotate),
        })
    }
}

pub(crate) fn program(element: &str) -> Program {
    Program::new(&ROTATE, "rotate", 256).with("ELEMENT", element)
}

/// See [`super::rotate_into`], which has checked the shapes. Whether the kernel knows the dtype and the layout.
pub(super) fn rotate_into(
    machine: &dyn Machine,
    data: &Tensor,
    [cos, sin]: [&Tensor; 2],
    output: &Tensor,
) -> Result<bool, TchError> {
    let Some(element) = element_name(data.kind()) else { return Ok(false) };
    let Ok(job) = Job::of(data, output, 0, true) else { return Ok(false) };
    run(machine, element, &[job], [cos, sin])?;
    Ok(true)
}

/// See [`super::rotate_and_append`], which has checked the shapes. `None` where no kernel knows the dtype.
pub(super) fn rotate_and_append(
    machine: &dyn Machine,
    [queries, keys, values]: [&Tensor; 3],
    tables: [&Tensor; 2],
    rooms: &[Room],
) -> Result<Option<Tensor>, TchError> {
    let Some(element) = element_name(queries.kind()) else { return Ok(None) };
    let rotated = Tensor::f_empty(queries.size(), (queries.kind(), machine.device()))?;
    super::check(queries, tables[0], tables[1], &rotated)?;
    let mut jobs = vec![Job::of(queries, &rotated, 0, true)?];
    let mut first = 0;
    for room in rooms {
        let count = room.tokens()?;
        for (data, room, rotate) in [(keys, &room.keys, true), (values, &room.values, false)] {
            jobs.push(Job::of(&data.f_narrow(0, first, count)?, &room.f_transpose(0, 1)?, first, rotate)?);
        }
        first += count;
    }
    run(machine, element, &jobs, tables)?;
    Ok(Some(rotated))
}

fn run(machine: &dyn Machine, element: &str, jobs: &[Job], [cos, sin]: [&Tensor; 2]) -> Result<(), TchError> {
    let half = cos.size2()?.1 / 2;
    let pairs = jobs.iter().map(|job| u64::from(job.tokens) * u64::from(job.heads) * half as u64).max().unwrap_or(0);
    if pairs == 0 {
        return Ok(());
    }
    let (cos, sin, table) = (cos.f_contiguous()?, sin.f_contiguous()?, upload(machine, jobs)?);
    let program = program(element);
    let blocks = u32::try_from(pairs.div_ceil(u64::from(program.threads)));
    let blocks = blocks.map_err(|_| TchError::Shape(format!("{pairs} pairs are beyond one launch")))?;
    let arguments = [Argument::of(&table), Argument::of(&cos), Argument::of(&sin), Argument::Count(half as u32)];
    // SAFETY: the arguments are the kernel's. Jobs name rows of tensors of its dtype at their own strides, and tokens
    // that the tables have.
    unsafe { machine.launch(&program, [blocks, jobs.len() as u32, 1], &arguments) }
}
