//! Attention of a batch of sequences, each over the parts of its cache.

use tch::{Kind, TchError, Tensor};

use super::{AttentionState, Mask, gpu, reference, stream};
use crate::cuda;
use crate::dispatch::{Choice, Level, for_kind, for_level};
use crate::quantized::Quantized;

/// KV pairs that the new tokens of a sequence see.
#[derive(Debug)]
pub enum Part<'a> {
    /// Keys and values as plain rows.
    Rows {
        /// Keys, contiguous; the last dimension is `head_dim`.
        keys: &'a Tensor,
        /// Values, laid out like the keys.
        values: &'a Tensor,
        /// Which rows belong to which KV head.
        extent: Extent<'a>,
        /// Which of them a query sees.
        mask: Mask,
    },
    /// Rows whose keys have fewer channels than their values; every query sees them all.
    Pruned {
        /// Keys, contiguous; the last dimension is that of `channels`.
        keys: &'a Tensor,
        /// Values, contiguous; the last dimension is `head_dim`.
        values: &'a Tensor,
        /// Which rows belong to which KV head.
        extent: Extent<'a>,
        /// The channels that keys have, int64 `[kv_heads, channels]`; the others count as zero.
        channels: &'a Tensor,
    },
    /// Keys and values as small integers; every query sees them all.
    Quantized {
        /// Codes and scales.
        store: &'a Quantized,
        /// The channels that keys have, int64 `[kv_heads, channels]`; the others count as zero. `None`: all.
        channels: Option<&'a Tensor>,
    },
}

/// Rows of each KV head in a part's storage.
#[derive(Clone, Copy, Debug)]
pub enum Extent<'a> {
    /// `[kv_heads, capacity, head_dim]`, of which the first `length` rows of each head are in use.
    Uniform {
        /// Rows of a head that there is room for.
        capacity: i64,
        /// Rows of a head in use.
        length: i64,
    },
    /// `[Σ lengths, head_dim]`: KV head `h` owns rows `indptr[h]..indptr[h + 1]`.
    Ragged(&'a [i64]),
}

impl Extent<'_> {
    /// First row and number of rows of a KV head.
    pub(super) fn rows(&self, head: usize) -> Option<(usize, usize)> {
        let (start, length) = match *self {
            Self::Uniform { capacity, length } => (head as i64 * capacity, length),
            Self::Ragged(indptr) => (*indptr.get(head)?, indptr.get(head + 1)? - indptr[head]),
        };
        Some((usize::try_from(start).ok()?, usize::try_from(length).ok()?))
    }
}

/// New tokens of one sequence, and what they see.
#[derive(Debug)]
pub struct Sequence<'a> {
    /// Number of new tokens.
    pub queries: i64,
    /// Disjoint parts of the sequence's cache.
    pub parts: Vec<Part<'a>>,
}

/// Attention of the new tokens of a batch of sequences, one sequence after another.
///
/// * `query`: `[Σ queries, heads, head_dim]`, after rotary embedding. Consecutive query heads share a KV head
///   (grouped-query attention); keys are not repeated.
/// * `kv_heads`: KV heads of every part
/// * `scale`: factor of the logits
///
/// Gives `[Σ queries, heads * head_dim]` in the query's dtype. A query that sees nothing gets zeros.
///
/// # Errors
/// The parts do not fit the query.
pub fn attend_parts(query: &Tensor, sequences: &[Sequence<'_>], kv_heads: i64, scale: f64) -> Result<Tensor, TchError> {
    check(query, sequences, kv_heads)?;
    let rows = || {
        sequences.iter().flat_map(|sequence| &sequence.parts).filter_map(|part| match part {
            Part::Rows { keys, values, .. } | Part::Pruned { keys, values, .. } => Some([*keys, *values]),
            Part::Quantized { .. } => None,
        })
    };
    let alike = rows().flatten().all(|tensor| tensor.kind() == query.kind() && tensor.is_contiguous());
    let codes = sequences.iter().flat_map(|sequence| &sequence.parts).filter_map(|part| match part {
        Part::Quantized { store, .. } => Some(store.tensors().map(|(_, tensor)| tensor)),
        _ => None,
    });
    match Choice::of(std::iter::once(query).chain(rows().flatten()).chain(codes.flatten()).map(Some))? {
        Choice::Kernels(level) if alike => match on(level, query, sequences, kv_heads, scale)? {
            Some(output) => Ok(output),
            None => by_states(query, sequences, scale),
        },
        Choice::Gpu(index) if alike => match gpu::attend(cuda::gpu(index)?, query, sequences, kv_heads, scale)? {
            Some(output) => Ok(output),
            None => by_states(query, sequences, scale),
        },
        _ => by_states(query, sequences, scale),
    }
}

/// `None` where no kernel knows the dtype.
pub(crate) fn on(
    level: Level,
    query: &Tensor,
    sequences: &[Sequence<'_>],
    kv_heads: i64,
    scale: f64,
) -> Result<Option<Tensor>, TchError> {
    for_level!(level, I => for_kind!(query.kind(), E =>
        stream::attend::<I, E>(query, sequences, kv_heads as usize, scale as f32)))
    .transpose()
}

fn check(query: &Tensor, sequences: &[Sequence<'_>], kv_heads: i64) -> Result<(), TchError> {
    let (tokens, heads, head_dim) = query.size3()?;
    let misfit = |what: String| TchError::Shape(format!("attention of queries {:?}: {what}", query.size()));
    let due: i64 = sequences.iter().map(|sequence| sequence.queries).sum();
    if due != tokens || sequences.iter().any(|sequence| sequence.queries < 0) {
        return Err(misfit(format!("{due} queries are due")));
    }
    if kv_heads < 1 || heads % kv_heads != 0 {
        return Err(misfit(format!("{kv_heads} KV heads do not divide the heads")));
    }
    for part in sequences.iter().flat_map(|sequence| &sequence.parts) {
        match part {
            Part::Rows { keys, values, extent, .. } => {
                if keys.size() != values.size() || !fits(*extent, keys, head_dim, kv_heads) {
                    return Err(misfit(format!("keys {:?}, values {:?}, {extent:?}", keys.size(), values.size())));
                }
            }
            Part::Pruned { keys, values, extent, channels } => {
                let key_dim = kept(channels, kv_heads)?;
                let complete = key_dim.is_some_and(|key_dim| fits(*extent, keys, key_dim, kv_heads));
                if !complete || !fits(*extent, values, head_dim, kv_heads) {
                    return Err(misfit(format!(
                        "keys {:?} of channels {:?}, values {:?}, {extent:?}",
                        keys.size(),
                        channels.size(),
                        values.size()
                    )));
                }
            }
            Part::Quantized { store, channels } => {
                let [key_channels, value_channels] = store.channels();
                let key_dim = match channels {
                    None => Some(head_dim),
                    Some(channels) => kept(channels, kv_heads)?,
                };
                if key_dim != Some(key_channels)
                    || value_channels != head_dim
                    || store.indptr.len() as i64 != kv_heads + 1
                {
                    return Err(misfit(format!("quantized keys of {key_channels} channels, {:?}", store.indptr)));
                }
            }
        }
    }
    Ok(())
}

/// How many channels `channels` keeps of every KV head; `None` where it is no such list.
fn kept(channels: &Tensor, kv_heads: i64) -> Result<Option<i64>, TchError> {
    let (heads, kept) = channels.size2()?;
    let list = heads == kv_heads && channels.kind() == Kind::Int64 && channels.is_contiguous();
    Ok(list.then_some(kept))
}

/// Whether `data` holds the rows of an extent, `width` elements each.
fn fits(extent: Extent<'_>, data: &Tensor, width: i64, kv_heads: i64) -> bool {
    let storage = data.numel() / (width.max(1) as usize);
    let inside = (0..kv_heads as usize).all(|head| {
        extent
            .rows(head)
            .is_some_and(|(start, length)| length == 0 || start.checked_add(length).is_some_and(|end| end <= storage))
    });
    inside && data.size().last() == Some(&width)
}

/// Attention of `query`, `[heads, queries, head_dim]`, over what was quantized, in float32.
fn quantized(
    query: &Tensor,
    store: &Quantized,
    channels: Option<&Tensor>,
    scale: f64,
) -> Result<AttentionState, TchError> {
    let query = query.f_to_kind(Kind::Float)?;
    let heads = (0..store.indptr.len() - 1).map(|head| store.unpacked(head)).collect::<Result<Vec<_>, _>>()?;
    let rows = |side: usize| Tensor::f_cat(&heads.iter().map(|sides| &sides[side]).collect::<Vec<_>>(), 0);
    let (keys, values) = (rows(0)?, rows(1)?);
    let indptr: Vec<i64> = store.indptr.iter().map(|groups| groups * store.format.group).collect();
    match channels {
        None => reference::attend_ragged(&query, &keys, &values, &indptr, scale),
        Some(channels) => reference::attend_pruned(&query, &keys, &values, Extent::Ragged(&indptr), channels, scale),
    }
}

/// With torch operations, part by part.
pub(crate) fn by_states(query: &Tensor, sequences: &[Sequence<'_>], scale: f64) -> Result<Tensor, TchError> {
    let (tokens, heads, head_dim) = query.size3()?;
    let mut outputs = Vec::with_capacity(sequences.len());
    let mut start = 0;
    for sequence in sequences {
        let own = query.f_narrow(0, start, sequence.queries)?.f_transpose(0, 1)?;
        let mut merged = AttentionState::empty(heads, sequence.queries, head_dim, query.device())?;
        for part in &sequence.parts {
            merged = match part {
                Part::Rows { keys, values, extent, mask } => {
                    merged.merge(&reference::attend_rows(&own, keys, values, *extent, *mask, scale)?)?
                }
                Part::Pruned { keys, values, extent, channels } => {
                    merged.merge(&reference::attend_pruned(&own, keys, values, *extent, channels, scale)?)?
                }
                Part::Quantized { store, channels } => merged.merge(&quantized(&own, store, *channels, scale)?)?,
            };
        }
        outputs.push(merged.output.f_transpose(0, 1)?);
        start += sequence.queries;
    }
    Tensor::f_cat(&outputs, 0)?.f_to_kind(query.kind())?.f_reshape([tokens, heads * head_dim])
}
