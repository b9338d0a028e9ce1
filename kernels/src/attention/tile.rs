//! The register tile that tiled attention is made of: products of a few rows with packed panels.

use crate::element::Element;
use crate::simd::Isa;

/// Rows of a tile.
pub(super) const ROWS: usize = 6;

/// Vectors across a panel: with [`ROWS`], what the registers hold.
pub(super) const fn vectors<I: Isa>() -> usize {
    if I::LANES >= 16 { 4 } else { 2 }
}

/// Columns of a panel.
pub(super) const fn columns<I: Isa>() -> usize {
    vectors::<I>() * I::LANES
}

/// Packs rows as the columns of a panel: of `rows`, `[count, width]`, each row becomes one of `columns` columns, zeros
/// where there are fewer. The panel is `[width in depths, columns, depth]`.
pub(super) fn pack_transposed<I: Isa, E: Element>(
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
pub(super) fn pack<I: Isa, E: Element>(
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
pub(super) unsafe fn multiply<I: Isa, E: Element, const N: usize>(
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
