//! One layer's cache: a compressed prefix and an appended tail.

use tch::{Device, Kind, Tensor};

use super::dense::Dense;
use super::quantized::{Quantization, Quantized};
use super::ragged::Ragged;
use super::tail::Tail;
use super::{Layout, file};
use crate::error::{During, Error, Result};
use crate::press::{Kept, RaggedIndices, Selection};
use crate::view::Geometry;
use pressroom_kernels::attention::{Sequence, attend_parts};

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
    /// sequence, each holding exactly the kept pairs. Keeping everything shares the given tensors.
    ///
    /// # Errors
    /// The selection does not fit the tensors ([`Selection::check`] says why).
    pub fn compress(keys: &Tensor, values: &Tensor, selection: &Selection) -> Result<Vec<Self>> {
        let (batch, kv_heads, _, _) = keys.size4()?;
        (0..batch)
            .map(|sequence| {
                let (keys, values) = (keys.f_select(0, sequence)?, values.f_select(0, sequence)?);
                let tail = Tail::like(&keys)?;
                let prefix: Box<dyn Layout> = match selection.kept() {
                    Kept::All => Box::new(Dense::new(keys, values)?),
                    Kept::Uniform(indices) => {
                        let indices = indices.f_select(0, sequence)?;
                        Box::new(Dense::new(gather(&keys, &indices)?, gather(&values, &indices)?)?)
                    }
                    Kept::Ragged(ragged) => Box::new(compact(&keys, &values, ragged, (sequence * kv_heads) as usize)?),
                };
                Ok(Self { prefix, tail })
            })
            .collect()
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

    /// Attention of the last appended tokens, `[heads, n, head_dim]`: over the whole prefix and, causally,
    /// over the tail. Float32, of the query's shape.
    ///
    /// # Errors
    /// The query does not fit the cache.
    pub fn attend(&self, query: &Tensor, scale: f64) -> Result<Tensor> {
        let (heads, queries, head_dim) = query.size3()?;
        let kv_heads = self.tail.used()?.0.size3()?.0;
        attend_parts(&query.f_transpose(0, 1)?, &[self.sequence(query, scale)?], kv_heads, scale)
            .and_then(|out| out.f_view([queries, heads, head_dim])?.f_transpose(0, 1)?.f_to_kind(Kind::Float))
            .during("attention over a cache", &[query])
    }

    /// What the last appended tokens see, for attention of a whole batch at once. `query` is theirs,
    /// `[heads, n, head_dim]`.
    ///
    /// # Errors
    /// The query does not fit the cache.
    pub fn sequence(&self, query: &Tensor, scale: f64) -> Result<Sequence<'_>> {
        let mut parts = self.prefix.parts(query, scale)?;
        parts.push(self.tail.part()?);
        Ok(Sequence { queries: query.size3()?.1, parts })
    }

    /// The cache that a selection over all its entries (prefix, then tail) leaves; the result has an empty tail.
    /// `selection` is for a batch of one.
    ///
    /// # Errors
    /// Entries differ in number per head while the selection keeps the same of each, or an index is out of range.
    pub fn select(&self, selection: &Selection) -> Result<Self> {
        let lengths = self.lengths();
        if matches!(selection.kept(), Kept::All) {
            return self.fork();
        }
        let (tail_keys, tail_values) = self.tail.used()?;
        let lists = selection.to_lists(lengths.len(), lengths.iter().copied().min().unwrap_or(0))?;
        let (mut keys, mut values, mut indptr) = (Vec::new(), Vec::new(), vec![0]);
        for (head, kept) in lists.iter().enumerate() {
            let (prefix_keys, prefix_values) = self.prefix.head(head)?;
            let indices = Tensor::f_from_slice(kept)?.f_to_device(tail_keys.device())?;
            let pick = |prefix: &Tensor, tail: &Tensor| -> Result<Tensor> {
                let all = Tensor::f_cat(&[prefix, &tail.f_select(0, head as i64)?], 0)?;
                all.f_index_select(0, &indices).during("selecting from a cache", &[&all, &indices])
            };
            keys.push(pick(&prefix_keys, &tail_keys)?);
            values.push(pick(&prefix_values, &tail_values)?);
            indptr.push(indptr[head] + kept.len() as i64);
        }
        let prefix: Box<dyn Layout> = match selection.kept() {
            Kept::Uniform(_) => Box::new(Dense::new(Tensor::f_stack(&keys, 0)?, Tensor::f_stack(&values, 0)?)?),
            _ => Box::new(Ragged::new(Tensor::f_cat(&keys, 0)?, Tensor::f_cat(&values, 0)?, indptr)?),
        };
        Ok(Self { prefix, tail: Tail::like(&tail_keys)? })
    }

    pub(super) fn quantized(&self, options: Quantization) -> Result<Self> {
        Ok(Self { prefix: Box::new(Quantized::of(self.prefix.as_ref(), options)?), tail: self.tail.fork()? })
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
pub(super) fn layout_from(name: &str, mut take: impl FnMut(&str) -> Result<Tensor>) -> Result<Box<dyn Layout>> {
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

/// `data[head, indices[head]]`: `[kv_heads, tokens, head_dim]` at `[kv_heads, kept]`.
fn gather(data: &Tensor, indices: &Tensor) -> Result<Tensor> {
    let wide = indices.f_unsqueeze(-1)?.f_expand([-1, -1, data.size3()?.2], false)?;
    data.f_gather(1, &wide, false).during("compressing a layer", &[data, indices])
}

/// The rows that a ragged selection keeps of one sequence whose lists start at row `first` of the selection.
fn compact(keys: &Tensor, values: &Tensor, ragged: &RaggedIndices, first: usize) -> Result<Ragged> {
    let (kv_heads, tokens, head_dim) = keys.size3()?;
    let bounds = ragged
        .indptr
        .get(first..=first + kv_heads as usize)
        .ok_or_else(|| Error::input(format!("selection for {} heads where more are due", ragged.indptr.len() - 1)))?;
    let start = bounds[0];
    let mut rows = Vec::with_capacity(kv_heads as usize);
    for (head, part) in bounds.windows(2).enumerate() {
        let kept = ragged.indices.f_narrow(0, part[0], part[1] - part[0])?;
        rows.push(kept.f_add_scalar(head as i64 * tokens)?);
    }
    let rows = Tensor::f_cat(&rows, 0)?;
    let pick = |data: &Tensor| -> Result<Tensor> {
        let flat = data.f_reshape([kv_heads * tokens, head_dim])?;
        flat.f_index_select(0, &rows).during("compressing a layer", &[data, &rows])
    };
    Ragged::new(pick(keys)?, pick(values)?, bounds.iter().map(|offset| offset - start).collect())
}
