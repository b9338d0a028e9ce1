//! Received attention on the processor: the logits of some queries at a time, which never leave its cache.

use tch::{Device, Kind, TchError, Tensor};

use super::Summary;
use crate::attention::default_scale;
use crate::dispatch::{Level, for_kind, for_level};
use crate::element::Element;
use crate::rows::{Rows, RowsMut, Scratch, elements};
use crate::simd::{self, Isa, Kernel};
use crate::threads;
use crate::tile::{self, ROWS};

/// Queries whose logits are held at a time.
const QUERIES: usize = 4 * ROWS;

/// Parts, at least, that the queries over a KV head are dealt out in, so that threads have work. Each sums up on its
/// own, and what they tell is joined in one order: the result is the same with any number of threads.
const SHARES: usize = 16;

/// Panels that a thread packs at a time.
const PANELS: usize = 8;

/// See [`super::received`], which has checked the shapes: keys up to a query's own position, which is `first` for the
/// first query. `None` where no kernel knows the dtype.
pub(super) fn run(
    level: Level,
    queries: &Tensor,
    keys: &Tensor,
    first: i64,
    summary: Summary<'_>,
) -> Result<Option<Tensor>, TchError> {
    let kind = if queries.kind() == keys.kind() { keys.kind() } else { Kind::Float };
    let (queries, keys) = (queries.f_to_kind(kind)?, keys.f_to_kind(kind)?);
    let ((batch, heads, count, _), tokens) = (queries.size4()?, keys.size4()?.2);
    let told = Tensor::f_zeros([batch, heads, tokens], (Kind::Float, Device::Cpu))?;
    if told.numel() == 0 || count == 0 {
        return Ok(Some(told));
    }
    let factors = match summary {
        Summary::Most(Some(factors)) => Some(factors.f_to_kind(Kind::Float)?.f_contiguous()?),
        _ => None,
    };
    let factors = factors.as_ref().map(elements::<f32>).transpose()?;
    let most = matches!(summary, Summary::Most(_));
    for sequence in 0..batch {
        let [queries, keys, told] = [&queries, &keys, &told].map(|all| all.f_get(sequence));
        let (queries, keys, told) = (queries?, keys?, told?);
        let done = for_level!(level, I => for_kind!(kind, E => match most {
            true => of_sequence::<I, E, true>(&queries, &keys, first, factors, &told),
            false => of_sequence::<I, E, false>(&queries, &keys, first, factors, &told),
        }));
        if done.transpose()?.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(told))
}

/// Tells `told`, which is zero, what `keys`, `[kv_heads, tokens, head_dim]`, receive of `queries`, `[heads, n,
/// head_dim]`: the largest, if `MOST`, or the sum.
fn of_sequence<I: Isa, E: Element, const MOST: bool>(
    queries: &Tensor,
    keys: &Tensor,
    first: i64,
    factors: Option<&[f32]>,
    told: &Tensor,
) -> Result<(), TchError> {
    let (kv_heads, tokens, _) = keys.size3()?;
    let (queries, told) = (Rows::<E>::of(queries)?, RowsMut::<f32>::of(told)?);
    let ([heads, count], width, tokens) = (queries.extents(), queries.width(), tokens as usize);
    let (group, columns) = (heads / kv_heads as usize, tile::columns::<I>());
    let panel = width.div_ceil(E::depth::<I>()) * columns * E::depth::<I>();
    let panels = tokens.div_ceil(columns);
    let room = panels * columns;
    let shares = SHARES.div_ceil(group).min(count.div_ceil(QUERIES));
    let mut packed = vec![E::from_f32(0.0).factor::<I>(); panels * panel];
    let mut parts = vec![0.0; group * shares * room];
    for head in 0..kv_heads {
        let own = keys.f_get(head)?.f_contiguous()?;
        let own = elements::<E>(&own)?;
        let scratch = Scratch::of(&mut packed);
        threads::for_each(panels.div_ceil(PANELS), |task| {
            for index in task * PANELS..panels.min((task + 1) * PANELS) {
                let rows = index * columns * width..own.len().min((index + 1) * columns * width);
                // SAFETY: each panel is a part of its own.
                let to = unsafe { scratch.part(index * panel..(index + 1) * panel) };
                tile::pack_transposed::<I, E>(&own[rows], width, columns, to);
            }
        });
        let scratch = Scratch::of(&mut parts);
        threads::for_each(group * shares, |index| {
            // SAFETY: each task has a part of its own; `for_level` names only what the processor has.
            unsafe {
                I::call(Share::<I, E, MOST> {
                    queries: &queries,
                    factors,
                    head: head as usize * group + index / shares,
                    share: index % shares,
                    shares,
                    count,
                    before: first as usize,
                    tokens,
                    panels: &packed,
                    panel,
                    told: scratch.part(index * room..(index + 1) * room),
                });
            }
        });
        for (member, parts) in parts.chunks_exact(shares * room).enumerate() {
            // SAFETY: nobody else writes meanwhile.
            let to = unsafe { told.row(0, head as usize * group + member, 0..tokens) };
            for part in parts.chunks_exact(room) {
                to.iter_mut().zip(part).for_each(|(to, from)| *to = if MOST { to.max(*from) } else { *to + from });
            }
        }
    }
    Ok(())
}

/// Every `shares`-th block of [`QUERIES`] queries of a head, from block `share` on.
struct Share<'a, I: Isa, E: Element, const MOST: bool> {
    queries: &'a Rows<'a, E>,
    /// What each query's weights are multiplied by.
    factors: Option<&'a [f32]>,
    head: usize,
    share: usize,
    shares: usize,
    /// Queries of the head.
    count: usize,
    /// Position of the first.
    before: usize,
    tokens: usize,
    /// All keys, in panels of `panel` factors.
    panels: &'a [E::Factor<I>],
    panel: usize,
    /// What each key receives; with room up to whole panels.
    told: &'a mut [f32],
}

impl<I: Isa, E: Element, const MOST: bool> Kernel<I> for Share<'_, I, E, MOST> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(self) {
        let (width, room, columns) = (self.queries.width(), self.told.len(), tile::columns::<I>());
        let words = width.div_ceil(E::depth::<I>());
        let stride = words * E::depth::<I>();
        let scale = default_scale(width as i64) as f32;
        // Rows beyond the last query are those of an earlier block or zeros, and nobody looks at their logits.
        let mut rows = vec![E::from_f32(0.0).factor::<I>(); QUERIES * stride];
        let mut logits = vec![0.0; QUERIES * room];
        self.told.fill(0.0);
        for first in (self.share * QUERIES..self.count).step_by(self.shares * QUERIES) {
            let count = QUERIES.min(self.count - first);
            for (index, to) in rows.chunks_exact_mut(stride).take(count).enumerate() {
                for (to, from) in to.iter_mut().zip(self.queries.row(self.head, first + index)) {
                    *to = from.factor::<I>();
                }
            }
            let visible = |row: usize| self.tokens.min(self.before + first + row + 1);
            for (index, panel) in
                self.panels.chunks_exact(self.panel).take(visible(count - 1).div_ceil(columns)).enumerate()
            {
                for row in (0..count).step_by(ROWS) {
                    // SAFETY: the processor has `I`; there are whole strips of rows and of logits, and room for panels.
                    unsafe {
                        let (rows, to) = (rows.as_ptr().add(row * stride), logits.as_mut_ptr());
                        let to = to.add(row * room + index * columns);
                        tile::score::<I, E>(rows, stride, panel.as_ptr(), words, scale, to, room);
                    }
                }
            }
            for (row, logits) in logits.chunks_exact_mut(room).take(count).enumerate() {
                let factor = self.factors.map_or(1.0, |factors| factors[first + row]);
                // SAFETY: the processor has `I`; room is whole vectors, and at least one key is visible.
                unsafe { tell::<I, MOST>(logits, visible(row), factor, self.told) };
            }
        }
    }
}

/// Tells `told` of the softmax of the first `visible` logits, at least one, times `factor`: the largest so far, if
/// `MOST`, or the sum.
///
/// # Safety
/// The processor has `I`; `logits` and `told` have room for whole vectors over `visible`.
#[inline(always)]
unsafe fn tell<I: Isa, const MOST: bool>(logits: &mut [f32], visible: usize, factor: f32, told: &mut [f32]) {
    let end = visible.next_multiple_of(I::LANES);
    logits[visible..end].fill(f32::NEG_INFINITY);
    // SAFETY: passed on to the caller.
    unsafe {
        let mut top = I::splat(f32::NEG_INFINITY);
        for at in (0..end).step_by(I::LANES) {
            top = I::max(top, I::load(logits.as_ptr().add(at)));
        }
        let largest = I::splat(I::largest(top));
        let mut total = I::splat(0.0);
        for at in (0..end).step_by(I::LANES) {
            let weight = simd::exp::<I>(I::sub(I::load(logits.as_ptr().add(at)), largest));
            total = I::add(total, weight);
            I::store(logits.as_mut_ptr().add(at), weight);
        }
        logits[visible..end].fill(0.0);
        let share = I::splat(factor / I::sum(total));
        for at in (0..end).step_by(I::LANES) {
            let (weight, to) = (I::load(logits.as_ptr().add(at)), told.as_mut_ptr().add(at));
            let so_far = I::load(to);
            I::store(to, if MOST { I::max(so_far, I::mul(weight, share)) } else { I::fma(weight, share, so_far) });
        }
    }
}
