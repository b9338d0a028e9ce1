//! Causal attention of a whole context over itself, in tiles with an online softmax.

use tch::{Kind, TchError, Tensor};

use super::flash;
use super::partial::{self, Merge, soften};
use crate::dispatch::{Choice, Level, for_kind, for_level};
use crate::element::Element;
use crate::rows::{Rows, RowsMut, Scratch, elements};
use crate::simd::{Isa, Kernel};
use crate::threads;
use crate::tile::{self, ROWS};

/// Queries that a thread takes at a time: a multiple of the tile's rows.
const QUERIES: usize = 16 * ROWS;

/// Keys whose logits are held at a time: a multiple of every panel's columns.
const KEYS: usize = 128;

/// Causal attention of a context, or of the last tokens of one, over itself.
///
/// * `queries`: `[heads, n, head_dim]` of the last `n` tokens, after rotary embedding. Consecutive query heads share a KV
///   head (grouped-query attention); keys are not repeated.
/// * `keys`, `values`: `[kv_heads, tokens, head_dim]`
///
/// Gives `[n, heads * head_dim]` in the queries' dtype. Logits are scaled by [`super::default_scale`]; the softmax
/// runs in float32.
///
/// # Errors
/// The shapes do not fit.
pub fn attend_context(queries: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor, TchError> {
    let (heads, own, head_dim) = queries.size3()?;
    let (kv_heads, tokens, _) = keys.size3()?;
    let size = [kv_heads, tokens, head_dim];
    if keys.size() != size || values.size() != size || own > tokens || kv_heads == 0 || heads % kv_heads != 0 {
        return Err(TchError::Shape(format!(
            "queries {:?}, keys {:?}, values {:?}",
            queries.size(),
            keys.size(),
            values.size()
        )));
    }
    let alike = [keys, values].iter().all(|operand| operand.kind() == queries.kind());
    let output = match Choice::of([Some(queries), Some(keys), Some(values)])? {
        Choice::Kernels(level) if alike => on(level, queries, keys, values)?,
        Choice::Gpu(_) if alike => flash::attend(queries, keys, values)?,
        _ => None,
    };
    match output {
        Some(output) => Ok(output),
        None => reference(queries, keys, values),
    }
}

/// With torch operations.
pub(super) fn reference(queries: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor, TchError> {
    let ((heads, own, head_dim), (kv_heads, tokens, _)) = (queries.size3()?, keys.size3()?);
    let batched = |data: &Tensor| data.f_unsqueeze(0);
    // Libtorch's own causal mask is for as many queries as keys.
    let mask = match own < tokens {
        true => Some(Tensor::f_ones([own, tokens], (Kind::Bool, keys.device()))?.f_tril(tokens - own)?),
        false => None,
    };
    let (queries, keys, values) = (batched(queries)?, batched(keys)?, batched(values)?);
    let (causal, grouped) = (mask.is_none(), heads != kv_heads);
    Tensor::f_scaled_dot_product_attention(&queries, &keys, &values, mask, 0.0, causal, None, grouped)?
        .f_squeeze_dim(0)?
        .f_transpose(0, 1)?
        .f_reshape([own, heads * head_dim])
}

/// `None` where no kernel knows the dtype.
pub(super) fn on(level: Level, queries: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Option<Tensor>, TchError> {
    let (heads, own, head_dim) = queries.size3()?;
    let output = Tensor::f_empty([own, heads * head_dim], (queries.kind(), queries.device()))?;
    let done = for_level!(level, I => for_kind!(queries.kind(), E => run::<I, E>(queries, keys, values, &output)));
    Ok(done.transpose()?.map(|()| output))
}

fn run<I: Isa, E: Element>(queries: &Tensor, keys: &Tensor, values: &Tensor, output: &Tensor) -> Result<(), TchError> {
    let (queries, output) = (Rows::<E>::of(queries)?, RowsMut::<E>::of(output)?);
    let (kv_heads, tokens, _) = keys.size3()?;
    let ([heads, own], head_dim) = (queries.extents(), queries.width());
    if own * head_dim == 0 {
        return Ok(());
    }
    let (group, tokens) = (heads / kv_heads as usize, tokens as usize);
    let per_head = tokens * head_dim;
    let shape = Panels::new::<I, E>(head_dim);
    let blocks = tokens.div_ceil(KEYS);
    let mut packed = vec![E::from_f32(0.0).factor::<I>(); blocks * shape.block];
    for head in 0..kv_heads {
        // A head's rows lie side by side where a context is being read, and there is room for more of them.
        let side = |all: &Tensor| all.f_get(head)?.f_contiguous();
        let (keys, values) = (side(keys)?, side(values)?);
        let (head, keys, values) = (head as usize, elements::<E>(&keys)?, elements::<E>(&values)?);
        let scratch = Scratch::of(&mut packed);
        threads::for_each(blocks, |block| {
            let own = block * KEYS * head_dim..per_head.min((block + 1) * KEYS * head_dim);
            // SAFETY: each block has a part of its own.
            let to = unsafe { scratch.part(block * shape.block..(block + 1) * shape.block) };
            shape.pack::<I, E>(&keys[own.clone()], &values[own], to);
        });
        let strips = own.div_ceil(QUERIES);
        threads::for_each(strips * group, |index| {
            // The last queries see the most keys: they come first, so that no thread is left with a long one.
            let first = (strips - 1 - index / group) * QUERIES;
            let head = head * group + index % group;
            // SAFETY: `for_level` names only what the processor has; each task has query rows of its own.
            unsafe {
                I::call(Task::<I, E> {
                    queries: &queries,
                    head,
                    first,
                    count: QUERIES.min(own - first),
                    before: tokens - own,
                    panels: &packed,
                    shape,
                    output: &output,
                })
            }
        });
    }
    Ok(())
}

/// How a block of [`KEYS`] keys and values is packed: panels of keys, then panels of values.
#[derive(Clone, Copy)]
struct Panels {
    head_dim: usize,
    /// Depths of a key.
    key_words: usize,
    /// Factors of all keys of a block.
    keys: usize,
    /// Factors of a block.
    block: usize,
}

impl Panels {
    fn new<I: Isa, E: Element>(head_dim: usize) -> Self {
        let key_words = head_dim.div_ceil(E::depth::<I>());
        let keys = key_words * KEYS * E::depth::<I>();
        // Values' panels have whole vectors.
        Self { head_dim, key_words, keys, block: keys + KEYS * head_dim.next_multiple_of(I::LANES) }
    }

    fn pack<I: Isa, E: Element>(self, keys: &[E], values: &[E], to: &mut [E::Factor<I>]) {
        let columns = tile::columns::<I>();
        let (key_panels, value_panels) = to.split_at_mut(self.keys);
        let panels = key_panels.chunks_exact_mut(self.key_words * columns * E::depth::<I>());
        for (index, panel) in panels.enumerate() {
            let start = keys.len().min(index * columns * self.head_dim);
            let own = start..keys.len().min(start + columns * self.head_dim);
            tile::pack_transposed::<I, E>(&keys[own], self.head_dim, columns, panel);
        }
        for start in (0..self.head_dim).step_by(columns) {
            let end = self.head_dim.min(start + columns);
            let width = (end - start).next_multiple_of(I::LANES);
            let panel = &mut value_panels[KEYS * start..][..KEYS * width];
            tile::pack::<I, E>(values, self.head_dim, start..end, width, panel);
        }
    }
}

/// Attention of up to [`QUERIES`] queries of one head.
struct Task<'a, I: Isa, E: Element> {
    queries: &'a Rows<'a, E>,
    head: usize,
    first: usize,
    count: usize,
    /// Keys before that of the first query of all.
    before: usize,
    panels: &'a [E::Factor<I>],
    shape: Panels,
    output: &'a RowsMut<'a, E>,
}

impl<I: Isa, E: Element> Kernel<I> for Task<'_, I, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run(self) {
        let Panels { head_dim, key_words, keys, block } = self.shape;
        let (depth, columns) = (E::depth::<I>(), tile::columns::<I>());
        let count = self.count;
        let zero = E::from_f32(0.0).factor::<I>();
        let query_stride = key_words * depth;
        // Rows up to whole tiles: those beyond the last query are zeros, and nobody looks at their results.
        let mut queries = vec![zero; QUERIES * query_stride];
        for (index, to) in queries.chunks_exact_mut(query_stride).take(count).enumerate() {
            for (to, from) in to.iter_mut().zip(self.queries.row(self.head, self.first + index)) {
                *to = from.factor::<I>();
            }
        }
        // Sums of values go up to whole vectors.
        let width = head_dim.next_multiple_of(I::LANES);
        let mut partials = vec![0.0; QUERIES * (width + 2)];
        partial::clear(&mut partials, width);
        let mut logits = [[0.0; KEYS]; ROWS];
        let mut weights = [[zero; KEYS]; ROWS];
        let scale = 1.0 / (head_dim as f32).sqrt();
        // Keys that the first query sees, and the last.
        let (seen, last) = (self.before + self.first + 1, self.before + self.first + count);
        for first_key in (0..last).step_by(KEYS) {
            let (key_panels, value_panels) = self.panels[first_key / KEYS * block..][..block].split_at(keys);
            for (strip, partials) in partials.chunks_exact_mut(ROWS * (width + 2)).enumerate() {
                let visible = |row: usize| (seen + strip * ROWS + row).saturating_sub(first_key).min(KEYS);
                let most = visible(ROWS - 1);
                if strip * ROWS >= count || most == 0 {
                    continue;
                }
                let mut factors = [0.0; ROWS];
                // SAFETY: the processor has `I`; the panels of a block hold what `Panels` says, and `most` keys are
                // within it; rows of queries, logits and weights have `ROWS` rows of their strides.
                unsafe {
                    for panel in 0..most.div_ceil(columns) {
                        let rows = queries.as_ptr().add(strip * ROWS * query_stride);
                        let own = key_panels.as_ptr().add(panel * key_words * columns * depth);
                        let to = logits.as_mut_ptr().cast::<f32>().add(panel * columns);
                        tile::score::<I, E>(rows, query_stride, own, key_words, scale, to, KEYS);
                    }
                    for (row, partial) in partials.chunks_exact_mut(width + 2).enumerate() {
                        factors[row] = soften::<I>(&mut logits[row], visible(row), partial);
                        for at in (0..most.next_multiple_of(depth)).step_by(I::LANES) {
                            let weight = I::load(logits[row].as_ptr().add(at));
                            <E::Factor<I>>::store::<I>(weights[row].as_mut_ptr().add(at), weight);
                        }
                    }
                    let words = most.div_ceil(depth);
                    for at in (0..width).step_by(columns) {
                        let panel = value_panels.as_ptr().add(KEYS * at);
                        match (width - at) / I::LANES {
                            1 => weigh::<I, E, 1>(&weights, &factors, panel, words, at, partials),
                            2 => weigh::<I, E, 2>(&weights, &factors, panel, words, at, partials),
                            3 if tile::vectors::<I>() == 4 => {
                                weigh::<I, E, 3>(&weights, &factors, panel, words, at, partials)
                            }
                            _ if tile::vectors::<I>() == 4 => {
                                weigh::<I, E, 4>(&weights, &factors, panel, words, at, partials)
                            }
                            _ => weigh::<I, E, 2>(&weights, &factors, panel, words, at, partials),
                        }
                    }
                }
            }
        }
        for (index, partial) in partials.chunks_exact_mut(width + 2).take(count).enumerate() {
            let range = self.head * head_dim..(self.head + 1) * head_dim;
            // SAFETY: the task has these rows of the output to itself, and the processor has `I`.
            unsafe {
                let output = self.output.row(0, self.first + index, range);
                Kernel::<I>::run(Merge {
                    partials: &mut partial[..head_dim + 2],
                    stride: head_dim + 2,
                    start: 0,
                    output,
                });
            }
        }
    }
}

/// Scales the sums' channels from `at` on by `factors` and adds the weighted values of a panel of `N` vectors.
///
/// # Safety
/// The processor has `I`; the panel covers `words`; the channels are within the partial results' rows.
#[inline(always)]
unsafe fn weigh<I: Isa, E: Element, const N: usize>(
    weights: &[[E::Factor<I>; KEYS]; ROWS],
    factors: &[f32; ROWS],
    panel: *const E::Factor<I>,
    words: usize,
    at: usize,
    partials: &mut [f32],
) {
    let stride = partials.len() / ROWS;
    // SAFETY: passed on to the caller.
    unsafe {
        let mut sums = [[I::splat(0.0); N]; ROWS];
        for row in 0..ROWS {
            for part in 0..N {
                let from = partials.as_ptr().add(row * stride + 2 + at + part * I::LANES);
                sums[row][part] = I::mul(I::load(from), I::splat(factors[row]));
            }
        }
        tile::multiply::<I, E, N>(&mut sums, weights.as_ptr().cast(), KEYS, panel, words);
        for row in 0..ROWS {
            for part in 0..N {
                let to = partials.as_mut_ptr().add(row * stride + 2 + at + part * I::LANES);
                I::store(to, sums[row][part]);
            }
        }
    }
}
