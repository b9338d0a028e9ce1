//! The register tile that attention and what it sums up to are made of: products of a few rows with packed panels.

use crate::element::Element;
use crate::simd::Isa;

/// Rows of a tile.
pub(crate) const ROWS: usize = 6;

/// Vectors across a panel: with [`ROWS`], what the registers hold.
pub(crate) const fn vectors<I: Isa>() -> usize {
    if I::LANES >= 16 { 4 } else { 2 }
}

/// Columns of a panel.
pub(crate) const fn columns<I: Isa>() -> usize {
    vectors::<I>() * I::LANES
}

/// Packs rows as the columns of a panel: of `rows`, `[count, width]`, each row becomes one of `columns` columns, zeros
/// where there are fewer. The panel is `[width in depths, columns, depth]`.
pub(crate) fn pack_transposed<I: Isa, E: Element>(
    rows: &[E],
    width: usize,
    columns: usize,
    panel: &mut [E::Factor<I>],
) {
    let depth = E::depth::<I>();
    panel.fill(E::from_f32(0.0).factor::<I>());
    for (column, row) in rows.chunks_exact(width).enumerate() {
        for (word, terms) in row.chunks(depth).enumerate() {
            let to = &mut panel[(word * columns + column) * depth..][..terms.len()];
            for (to, term) in to.iter_mut().zip(terms) {
                *to = term.factor::<I>();
            }
        }
    }
}

/// Packs columns `range` of `rows`, `[count, width]`, as a panel `[count in depths, columns, depth]`, zeros where there
/// are fewer.
pub(crate) fn pack<I: Isa, E: Element>(
    rows: &[E],
    width: usize,
    range: std::ops::Range<usize>,
    columns: usize,
    panel: &mut [E::Factor<I>],
) {
    let depth = E::depth::<I>();
    panel.fill(E::from_f32(0.0).factor::<I>());
    for (index, row) in rows.chunks_exact(width).enumerate() {
        let to = &mut panel[index / depth * columns * depth..][..columns * depth];
        for (to, term) in to[index % depth..].iter_mut().step_by(depth).zip(&row[range.clone()]) {
            *to = term.factor::<I>();
        }
    }
}

/// Adds products of `words` depths to a tile: [`ROWS`] rows from `rows`, `stride` factors apart, with `N` vectors of a
/// panel.
///
/// # Safety
/// The processor has `I`; `rows` covers the rows and `panel` the words.
#[inline(always)]
pub(crate) unsafe fn multiply<I: Isa, E: Element, const N: usize>(
    tile: &mut [[I::V; N]; ROWS],
    rows: *const E::Factor<I>,
    stride: usize,
    panel: *const E::Factor<I>,
    words: usize,
) {
    let depth = E::depth::<I>();
    for word in 0..words {
        for index in 0..ROWS {
            for part in 0..N {
                // SAFETY: passed on to the caller.
                unsafe {
                    let shared = rows.add(index * stride + word * depth);
                    let lanes = panel.add((word * N + part) * I::LANES * depth);
                    tile[index][part] = E::outer::<I>(tile[index][part], shared, lanes);
                }
            }
        }
    }
}

/// Scaled products of [`ROWS`] rows with the columns of a panel: logits, if those are queries and keys. Row `i` of them
/// is stored at `to + i * to_stride`.
///
/// # Safety
/// The processor has `I`; the pointers cover [`ROWS`] rows, `stride` and `to_stride` apart, and a panel of `words`.
#[inline(always)]
pub(crate) unsafe fn score<I: Isa, E: Element>(
    rows: *const E::Factor<I>,
    stride: usize,
    panel: *const E::Factor<I>,
    words: usize,
    scale: f32,
    to: *mut f32,
    to_stride: usize,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        if vectors::<I>() == 4 {
            score_vectors::<I, E, 4>(rows, stride, panel, words, scale, to, to_stride);
        } else {
            score_vectors::<I, E, 2>(rows, stride, panel, words, scale, to, to_stride);
        }
    }
}

/// [`score`] for panels of `N` vectors.
///
/// # Safety
/// As [`score`].
#[inline(always)]
unsafe fn score_vectors<I: Isa, E: Element, const N: usize>(
    rows: *const E::Factor<I>,
    stride: usize,
    panel: *const E::Factor<I>,
    words: usize,
    scale: f32,
    to: *mut f32,
    to_stride: usize,
) {
    // SAFETY: passed on to the caller.
    unsafe {
        let mut sums = [[I::splat(0.0); N]; ROWS];
        multiply::<I, E, N>(&mut sums, rows, stride, panel, words);
        for row in 0..ROWS {
            for part in 0..N {
                I::store(to.add(row * to_stride + part * I::LANES), I::mul(sums[row][part], I::splat(scale)));
            }
        }
    }
}
