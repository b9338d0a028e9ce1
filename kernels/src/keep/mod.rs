//! What a selection leaves of keys or values: the rows that are listed for each head.

pub(crate) mod gpu;
#[cfg(test)]
mod tests;

use tch::{Device, Kind, TchError, Tensor};

use crate::cuda;
use crate::dispatch::{Choice, for_kind};
use crate::element::Element;
use crate::rows::{Rows, RowsMut, bytes, integers};
use crate::threads;

/// Rows that a thread copies at a time.
const ROWS: usize = 512;

/// The rows of `data`, `[heads, tokens, width]`, that are listed: head `h` keeps `indices[offsets[h]..offsets[h + 1]]`,
/// int64. `[Σ kept, width]`, head after head, without gaps.
///
/// # Errors
/// The offsets do not divide the indices among the heads, an index is out of range, or libtorch cannot allocate.
pub fn rows(data: &Tensor, indices: &Tensor, offsets: &[i64]) -> Result<Tensor, TchError> {
    let (heads, tokens, _) = data.size3()?;
    let ascending = offsets.is_sorted() && offsets.first() == Some(&0);
    if !ascending || offsets.len() as i64 != heads + 1 || offsets.last() != Some(&indices.size1()?) {
        let listed = indices.numel();
        return Err(TchError::Shape(format!("offsets {offsets:?} do not divide {listed} indices among {heads} heads")));
    }
    let ours = indices.kind() == Kind::Int64;
    let kept = match Choice::of([Some(data), Some(indices)])? {
        Choice::Kernels(_) if ours => {
            for_kind!(data.kind(), E => copy::<E>(data, &indices.f_contiguous()?, offsets)).transpose()?
        }
        Choice::Gpu(index) if ours => gpu::rows(cuda::gpu(index)?, data, indices, offsets)?,
        _ => None,
    };
    if let Some(kept) = kept {
        return Ok(kept);
    }
    if indices.numel() > 0 {
        let extremes = [indices.f_min()?.f_int64_value(&[])?, indices.f_max()?.f_int64_value(&[])?];
        if let Some(index) = extremes.into_iter().find(|index| !(0..tokens).contains(index)) {
            return Err(out_of_range(index, tokens));
        }
    }
    reference(data, indices, offsets)
}

/// The true entries of each row of `mask`, bool `[rows, n]`, as [`rows`] takes them: int64 `[Σ kept]`, ascending in each
/// row, and the offsets of the rows' parts.
///
/// # Errors
/// The mask is not two-dimensional.
pub fn listed(mask: &Tensor) -> Result<(Tensor, Vec<i64>), TchError> {
    let (rows, width) = mask.size2()?;
    let Choice::Kernels(_) = Choice::of([Some(mask)])? else { return reference_listed(mask) };
    let mask = mask.f_contiguous()?.f_view_dtype(Kind::Uint8)?;
    let mask = bytes(&mask)?;
    let total = mask.iter().map(|&kept| usize::from(kept)).sum();
    let (mut indices, mut offsets) = (vec![0; total + 1], vec![0]);
    let mut end = 0;
    for row in 0..rows as usize {
        for (index, &kept) in mask[row * width as usize..(row + 1) * width as usize].iter().enumerate() {
            // Written whatever it is, and overwritten by the next unless it counts: nothing to guess for the processor.
            indices[end] = index as i64;
            end += usize::from(kept);
        }
        offsets.push(end as i64);
    }
    Ok((Tensor::f_from_slice(&indices[..total])?, offsets))
}

fn reference_listed(mask: &Tensor) -> Result<(Tensor, Vec<i64>), TchError> {
    let counts = mask.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)?.f_cumsum(0, Kind::Int64)?;
    let ends: Vec<i64> = counts.try_into()?;
    // `nonzero` lists row after row, ascending within a row.
    Ok((mask.f_nonzero()?.f_select(1, 1)?.f_contiguous()?, [vec![0], ends].concat()))
}

fn out_of_range(index: i64, tokens: i64) -> TchError {
    TchError::Shape(format!("index {index} of {tokens} tokens"))
}

/// With torch operations; the indices are within range.
fn reference(data: &Tensor, indices: &Tensor, offsets: &[i64]) -> Result<Tensor, TchError> {
    let tokens = data.size3()?.1;
    let here = |list: Vec<i64>| Tensor::f_from_slice(&list)?.f_to_device(indices.device());
    let counts = here(offsets.windows(2).map(|part| part[1] - part[0]).collect())?;
    let firsts = here((0..offsets.len() as i64 - 1).map(|head| head * tokens).collect())?;
    let rows = firsts.f_repeat_interleave_self_tensor(&counts, 0, indices.size1()?)?.f_add(indices)?;
    data.f_flatten(0, 1)?.f_index_select(0, &rows)
}

/// Runs of rows that lie side by side are copied as one.
fn copy<E: Element>(data: &Tensor, indices: &Tensor, offsets: &[i64]) -> Result<Tensor, TchError> {
    let (_, tokens, width) = data.size3()?;
    let (from, indices) = (Rows::<E>::of(data)?, integers(indices)?);
    if let Some(index) = indices.iter().find(|index| !(0..tokens).contains(*index)) {
        return Err(out_of_range(*index, tokens));
    }
    let kept = Tensor::f_empty([indices.len() as i64, width], (E::KIND, Device::Cpu))?;
    let (flat, width) = (kept.f_flatten(0, 1)?, width as usize);
    let to = RowsMut::<E>::of(&flat)?;
    threads::for_each(indices.len().div_ceil(ROWS), |task| {
        let mut row = task * ROWS;
        let end = indices.len().min(row + ROWS);
        while row < end {
            let head = offsets.partition_point(|&offset| offset <= row as i64) - 1;
            let end = end.min(offsets[head + 1] as usize);
            let first = indices[row];
            let count = (1..end - row).take_while(|&next| indices[row + next] == first + next as i64).count() + 1;
            // SAFETY: each row is written by one task.
            let to = unsafe { to.row(0, 0, row * width..(row + count) * width) };
            from.copy(head, first as usize..first as usize + count, to);
            row += count;
        }
    });
    Ok(kept)
}
