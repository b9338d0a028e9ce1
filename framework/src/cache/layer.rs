//! One layer's cache: a compressed prefix and an appended tail.

use tch::{Device, Kind, Tensor};

use super::dense::Dense;
use super::pruned::{Pruned, prune};
use super::quantized::{Quantization, Quantized};
use super::ragged::Ragged;
use super::tail::Tail;
use super::{Layout, file};
use crate::error::{During, Error, Result};
use crate::press::{Edits, Kept, RaggedIndices, Selection};
use crate::view::Geometry;
use pressroom_kernels::attention::{Sequence, attend_parts};
use pressroom_kernels::keep;
use pressroom_kernels::rotary::Room;

/// The cache of one layer of one sequence.
#[derive(Debug)]
pub struct LayerCache {
    prefix: Box<dyn Layout>,
    tail: Tail,
}

impl LayerCache {
    /// A cache that holds nothing yet.
    ///
    /// # Errors
    /// libtorch cannot allocate on `device`.
    pub fn empty(geometry: Geometry, kind: Kind, device: Device) -> Result<Self> {
        let none = || Tensor::f_empty([geometry.kv_heads, 0, geometry.head_dim], (kind, device));
        let keys = none()?;
        let tail = Tail::like(&keys)?;
        Ok(Self { prefix: Box::new(Dense::new(keys, none()?)?), tail })
    }

    /// What a selection leaves of `keys` and `values`, `[batch, kv_heads, tokens, head_dim]`: one cache per
    /// sequence, each holding exactly the kept pairs. Keeping everything of a single sequence shares the given
    /// tensors.
    ///
    /// # Errors
    /// The selection does not fit the tensors ([`Selection::check`] says why), or moves keys to other positions
    /// (that takes a view: [`crate::view::LayerView::compress`]).
    pub fn compress(keys: &Tensor, values: &Tensor, selection: &Selection) -> Result<Vec<Self>> {
        if selection.edits().positions.is_some() {
            return Err(Error::input("keys that move to other positions are compressed through their view"));
        }
        let kv_heads = keys.size4()?.1;
        Self::from_kept(&selection.kept().pick(keys)?, &selection.kept_values(values)?, selection, kv_heads)
    }

    /// One cache per sequence from the entries kept: uniform `[batch, kv_heads, kept, head_dim]`, ragged
    /// `[Σ kept, head_dim]`, edited already but for the key channels.
    pub(crate) fn from_kept(keys: &Tensor, values: &Tensor, selection: &Selection, kv_heads: i64) -> Result<Vec<Self>> {
        let channels = |sequence: i64| -> Result<Option<Tensor>> {
            let all = selection.edits().channels.as_ref();
            Ok(all.map(|all| all.f_select(0, sequence)).transpose()?)
        };
        if let Kept::Ragged(RaggedIndices { indptr, .. }) = selection.kept() {
            let firsts = (0..indptr.len() - 1).step_by(kv_heads.max(1) as usize);
            return firsts
                .enumerate()
                .map(|(sequence, first)| {
                    let bounds = indptr.get(first..=first + kv_heads as usize).ok_or_else(|| {
                        Error::input(format!("selection for {} heads where more are due", indptr.len() - 1))
                    })?;
                    let start = bounds[0];
                    let length = bounds[bounds.len() - 1] - start;
                    let alone = indptr.len() as i64 - 1 == kv_heads;
                    let rows = bounds.iter().map(|offset| offset - start).collect();
                    let own = |data: &Tensor| -> Result<Tensor> {
                        let data = data.f_narrow(0, start, length)?;
                        Ok(if alone { data } else { data.f_view_copy(data.size())? })
                    };
                    Self::new(own(keys)?, own(values)?, Some(rows), channels(sequence as i64)?, kv_heads)
                })
                .collect();
        }
        let batch = keys.size4()?.0;
        (0..batch)
            .map(|sequence| {
                // A view of one sequence of many would keep the allocation of all.
                let own = |data: &Tensor| -> Result<Tensor> {
                    let data = data.f_select(0, sequence)?;
                    Ok(if batch > 1 { data.f_view_copy(data.size())? } else { data })
                };
                Self::new(own(keys)?, own(values)?, None, channels(sequence)?, kv_heads)
            })
            .collect()
    }

    /// A cache whose prefix is `keys` and `values`: dense, or with offsets ragged; of the keys only `channels`, if
    /// there are any.
    fn new(
        mut keys: Tensor,
        values: Tensor,
        indptr: Option<Vec<i64>>,
        channels: Option<Tensor>,
        kv_heads: i64,
    ) -> Result<Self> {
        let head_dim = values.size()[values.dim() - 1];
        let none = Tensor::f_empty([kv_heads, 0, head_dim], (values.kind(), values.device()))?;
        if let Some(channels) = &channels {
            keys = prune(&keys, channels, indptr.as_deref())?;
        }
        let stored: Box<dyn Layout> = match indptr {
            None => Box::new(Dense::new(keys, values)?),
            Some(indptr) => Box::new(Ragged::new(keys, values, indptr)?),
        };
        let prefix = match channels {
            None => stored,
            Some(channels) => Box::new(Pruned::new(stored, channels, head_dim)?),
        };
        Ok(Self { prefix, tail: Tail::like(&none)? })
    }

    /// Rebuilds a layer from the tensors of its prefix and its tail.
    pub(super) fn from_parts(prefix: Box<dyn Layout>, tail_keys: &Tensor, tail_values: &Tensor) -> Result<Self> {
        let mut tail = Tail::like(tail_keys)?;
        tail.append(tail_keys, tail_values)?;
        Ok(Self { prefix, tail })
    }

    /// The compressed part.
    pub fn prefix(&self) -> &dyn Layout {
        self.prefix.as_ref()
    }

    /// Keys and values appended since, each `[kv_heads, n, head_dim]`.
    ///
    /// # Errors
    /// libtorch cannot make the views.
    pub fn appended(&self) -> Result<(Tensor, Tensor)> {
        self.tail.used()
    }

    /// Tokens appended since.
    pub(super) fn appended_tokens(&self) -> i64 {
        self.tail.length()
    }

    /// KV pairs held by each KV head.
    pub fn lengths(&self) -> Vec<i64> {
        self.prefix.lengths().into_iter().map(|length| length + self.tail.length()).collect()
    }

    /// Appends new tokens' keys and values, each `[kv_heads, n, head_dim]`, keys after rotary embedding.
    ///
    /// # Errors
    /// The shapes do not fit the cache.
    pub fn append(&mut self, keys: &Tensor, values: &Tensor) -> Result<()> {
        self.tail.append(keys, values)
    }

    /// Room for the keys and values of `tokens` new tokens, which count as appended: to be written at once.
    ///
    /// # Errors
    /// libtorch cannot allocate.
    pub(crate) fn make_room(&mut self, tokens: i64) -> Result<Room> {
        self.tail.make_room(tokens)
    }

    /// Attention of the last appended tokens, `[heads, n, head_dim]`: over the whole prefix and, causally,
    /// over the tail. Float32, of the query's shape.
    ///
    /// # Errors
    /// The query does not fit the cache.
    pub fn attend(&self, query: &Tensor, scale: f64) -> Result<Tensor> {
        let (heads, queries, head_dim) = query.size3()?;
        let kv_heads = self.tail.used()?.0.size3()?.0;
        attend_parts(&query.f_transpose(0, 1)?, &[self.sequence(queries)?], kv_heads, scale)
            .and_then(|out| out.f_view([queries, heads, head_dim])?.f_transpose(0, 1)?.f_to_kind(Kind::Float))
            .during("attention over a cache", &[query])
    }

    /// What the last `queries` appended tokens see, for attention of a whole batch at once.
    ///
    /// # Errors
    /// The layout contradicts itself.
    pub fn sequence(&self, queries: i64) -> Result<Sequence<'_>> {
        let mut parts = self.prefix.parts()?;
        parts.push(self.tail.part()?);
        Ok(Sequence { queries, parts })
    }

    /// Keys of one KV head where they lie, prefix and tail, each `[length, head_dim]`; key channels that were removed
    /// are zero.
    ///
    /// # Errors
    /// There is no such head.
    pub fn keys_of(&self, head: usize) -> Result<[Tensor; 2]> {
        Ok([self.prefix.head(head)?.0, self.tail.used()?.0.f_select(0, head as i64)?])
    }

    /// Keys and values of one KV head, prefix then tail, each `[length, head_dim]`; key channels that were removed
    /// are zero.
    ///
    /// # Errors
    /// There is no such head.
    pub fn head(&self, head: usize) -> Result<(Tensor, Tensor)> {
        let (prefix_keys, prefix_values) = self.prefix.head(head)?;
        let (tail_keys, tail_values) = self.tail.used()?;
        let join = |prefix: &Tensor, tail: &Tensor| Tensor::f_cat(&[prefix, &tail.f_select(0, head as i64)?], 0);
        Ok((join(&prefix_keys, &tail_keys)?, join(&prefix_values, &tail_values)?))
    }

    /// Keys and values of the entries `start..start + length` of every KV head, prefix then tail, each
    /// `[kv_heads, length, head_dim]`.
    ///
    /// # Errors
    /// A KV head has fewer entries.
    pub fn span(&self, start: i64, length: i64) -> Result<(Tensor, Tensor)> {
        let end = start + length;
        let (tail_keys, tail_values) = self.tail.used()?;
        let room = |tail: &Tensor| {
            let (heads, _, width) = tail.size3()?;
            Tensor::f_empty([heads, length, width], (tail.kind(), tail.device()))
        };
        let (keys, values) = (room(&tail_keys)?, room(&tail_values)?);
        for (head, stored) in self.prefix.lengths().into_iter().enumerate() {
            let split = stored.clamp(start, end);
            let fill = |room: &Tensor, prefix: &Tensor, tail: &Tensor| -> Result<()> {
                let (room, tail) = (room.f_select(0, head as i64)?, tail.f_select(0, head as i64)?);
                let prefix = prefix.f_narrow(0, start.min(stored), split - start)?;
                room.f_narrow(0, 0, split - start)?.f_copy_(&prefix)?;
                let tail = tail.f_narrow(0, (split - stored).max(0), end - split)?;
                Ok(room.f_narrow(0, split - start, end - split)?.f_copy_(&tail)?)
            };
            let (prefix_keys, prefix_values) = self.prefix.head(head)?;
            fill(&keys, &prefix_keys, &tail_keys)?;
            fill(&values, &prefix_values, &tail_values)?;
        }
        Ok((keys, values))
    }

    /// The cache that a selection over all its entries (prefix, then tail) leaves; the result has an empty tail, and is
    /// quantized where this cache is. `selection` is for a batch of one.
    ///
    /// # Errors
    /// Entries differ in number per head while the selection keeps the same of each, an index is out of range, or
    /// keys would move to other positions.
    pub fn select(&self, selection: &Selection) -> Result<Self> {
        if matches!(selection.kept(), Kept::All) && selection.edits().is_empty() {
            return self.fork();
        }
        let lengths = self.lengths();
        let shortest = lengths.iter().copied().min().unwrap_or(0);
        let (tail_keys, tail_values) = self.tail.used()?;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let lists = selection.to_lists(lengths.len(), shortest)?;
        for (head, kept) in lists.iter().enumerate() {
            // From prefix and tail where they lie: joining them would copy the cache.
            let prefix = self.prefix.head(head)?;
            let tail = (tail_keys.f_select(0, head as i64)?, tail_values.f_select(0, head as i64)?);
            let stored = prefix.0.size2()?.0;
            let (old, new) = kept.split_at(kept.partition_point(|&entry| entry < stored));
            let new: Vec<i64> = new.iter().map(|entry| entry - stored).collect();
            for ((own_keys, own_values), kept) in [(prefix, old), (tail, &new[..])] {
                let indices = Tensor::f_from_slice(kept)?.f_to_device(own_keys.device())?;
                let pick = |all: &Tensor| {
                    keep::rows(&all.f_unsqueeze(0)?, &indices, &[0, kept.len() as i64])
                        .during("selecting from a cache", &[all, &indices])
                };
                keys.push(pick(&own_keys)?);
                values.push(pick(&own_values)?);
            }
        }
        let join = |parts: &[Tensor]| -> Result<Tensor> {
            let all = Tensor::f_cat(parts, 0)?;
            let (heads, kept) = (lists.len() as i64, lists.first().map_or(0, Vec::len) as i64);
            match selection.kept() {
                Kept::Ragged(_) => Ok(all),
                _ => Ok(all.f_view([1, heads, kept, all.size2()?.1])?),
            }
        };
        let Edits { values: edited, positions, .. } = selection.edits();
        if positions.is_some() {
            return Err(Error::input("keys of a cache do not move to other positions"));
        }
        let values = match edited {
            Some(edited) => edited.f_to_kind(values[0].kind())?,
            None => join(&values)?,
        };
        let mut caches = Self::from_kept(&join(&keys)?, &values, selection, lengths.len() as i64)?;
        let left = caches.pop().ok_or_else(|| Error::input("a selection for no sequence"))?;
        match self.prefix.quantization() {
            Some(options) => left.quantized(options),
            None => Ok(left),
        }
    }

    /// The same cache with its prefix quantized; appended tokens keep full precision.
    ///
    /// # Errors
    /// A group cannot be, or a value is not within float16.
    pub fn quantized(&self, options: Quantization) -> Result<Self> {
        Ok(Self { prefix: self.prefix.quantized(options)?, tail: self.tail.fork()? })
    }

    pub(super) fn forget(&mut self, tokens: i64) -> Result<()> {
        self.tail.forget(tokens)
    }

    pub(super) fn fork(&self) -> Result<Self> {
        Ok(Self { prefix: self.prefix.share(), tail: self.tail.fork()? })
    }

    /// Allocated bytes of prefix and tail.
    pub fn bytes(&self) -> usize {
        self.prefix.bytes() + self.tail.bytes()
    }
}

/// The layout called `name` from its tensors.
pub(super) fn layout_from(name: &str, take: &dyn Fn(&str) -> Result<Tensor>) -> Result<Box<dyn Layout>> {
    if let Some(stored) = name.strip_prefix(Pruned::PREFIX) {
        let channels = take("channels")?;
        let stored = layout_from(stored, take)?;
        let head_dim = take("values")?.size().last().copied().unwrap_or(0);
        return Ok(Box::new(Pruned::new(stored, channels, head_dim)?));
    }
    match name {
        Dense::NAME => Ok(Box::new(Dense::new(take("keys")?, take("values")?)?)),
        Ragged::NAME => {
            let indptr = Vec::try_from(take("indptr")?)?;
            Ok(Box::new(Ragged::new(take("keys")?, take("values")?, indptr)?))
        }
        Quantized::NAME => Ok(Box::new(Quantized::from_tensors(take)?)),
        other => Err(Error::input(format!("cache layout `{other}` is not one of {}", file::KNOWN_LAYOUTS.join(", ")))),
    }
}
