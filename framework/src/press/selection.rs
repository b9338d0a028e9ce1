//! What a press decides: which positions each KV head keeps, and what is changed of those kept.

use std::borrow::Cow;

use tch::{Device, Kind, TchError, Tensor};

use crate::error::{During, Error, Result};
use pressroom_kernels::keep;

/// A press's decision about one layer.
///
/// Indices count from the start of the view that the press was given, and ascend within a head.
/// A selection is data: it can be inspected, composed, stored, and applied to a cache.
#[derive(Debug)]
pub struct Selection {
    kept: Kept,
    edits: Edits,
}

/// What a press changes of the entries it keeps; keys move first, then lose channels. Where entries are listed, they are those kept, in the
/// selection's order: uniform `[batch, kv_heads, kept]`, ragged `[Σ kept]`.
#[derive(Debug, Default)]
pub struct Edits {
    /// New values, `[.., head_dim]`, of the entries kept (merging).
    pub values: Option<Tensor>,
    /// Key channels that are kept, int64 `[batch, kv_heads, channels]`, ascending; the others count as zero.
    pub channels: Option<Tensor>,
    /// Positions that the keys of the entries kept are rotated to, int64 (re-rotation).
    pub positions: Option<Tensor>,
}

impl Edits {
    /// The same edits over the same tensors.
    pub fn shallow_clone(&self) -> Self {
        let same = |edit: &Option<Tensor>| edit.as_ref().map(Tensor::shallow_clone);
        Self { values: same(&self.values), channels: same(&self.channels), positions: same(&self.positions) }
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.values.is_none() && self.channels.is_none() && self.positions.is_none()
    }
}

/// Which KV pairs survive.
#[derive(Debug)]
pub enum Kept {
    /// Everything.
    All,
    /// The same number in every KV head: int64 `[batch, kv_heads, kept]`.
    Uniform(Tensor),
    /// A number of their own per KV head.
    Ragged(RaggedIndices),
}

/// Kept indices of a different number per KV head: one flat list and the offsets of its parts.
#[derive(Debug)]
pub struct RaggedIndices {
    /// int64 `[Σ kept]`, sequence after sequence, head after head.
    pub indices: Tensor,
    /// `batch * kv_heads + 1` offsets into `indices`.
    pub indptr: Vec<i64>,
}

impl RaggedIndices {
    /// The lists that `flat`, int64 `[Σ kept]`, is made of.
    fn split(&self, flat: &Tensor) -> Result<Vec<Vec<i64>>> {
        let flat: Vec<i64> = Vec::try_from(flat)?;
        Ok(self.indptr.windows(2).map(|part| flat[part[0] as usize..part[1] as usize].to_vec()).collect())
    }
}

impl Kept {
    /// The kept entries of `data`, `[batch, kv_heads, tokens, ..]`: of a uniform selection
    /// `[batch, kv_heads, kept, ..]`, of a ragged one `[Σ kept, ..]`; everything is shared, not copied.
    ///
    /// # Errors
    /// The selection is for data of another shape.
    pub fn pick(&self, data: &Tensor) -> Result<Tensor> {
        match self {
            Self::All => Ok(data.shallow_clone()),
            // Whole rows are copied at once, which a gather does number by number.
            Self::Uniform(indices) if data.dim() == 4 => pick_rows(data, indices),
            Self::Uniform(indices) => data.f_gather(2, indices, false),
            Self::Ragged(RaggedIndices { indices, indptr }) => match data.dim() {
                3 => keep::rows(&data.f_flatten(0, 1)?.f_unsqueeze(2)?, indices, indptr)?.f_squeeze_dim(1),
                _ => keep::rows(&data.f_flatten(0, 1)?, indices, indptr),
            },
        }
        .during("keeping entries", &[data])
    }
}

/// The rows `indices`, `[batch, kv_heads, kept]`, of `data`, `[batch, kv_heads, tokens, width]`.
fn pick_rows(data: &Tensor, indices: &Tensor) -> Result<Tensor, TchError> {
    let ((batch, heads, _, width), (rows, columns, kept)) = (data.size4()?, indices.size3()?);
    if (rows, columns) != (batch, heads) {
        return Err(TchError::Shape(format!("entries of {rows} x {columns} heads where there are {batch} x {heads}")));
    }
    let offsets: Vec<i64> = (0..=batch * heads).map(|head| head * kept).collect();
    let rows = keep::rows(&data.f_flatten(0, 1)?, &indices.f_flatten(0, 2)?, &offsets)?;
    rows.f_view([batch, heads, kept, width])
}

impl Selection {
    /// Keeps everything.
    pub fn all() -> Self {
        Self { kept: Kept::All, edits: Edits::default() }
    }

    /// Keeps `indices`, int64 `[batch, kv_heads, kept]`, which ascend in each head; [`Self::check`] says whether they do.
    ///
    /// # Errors
    /// The tensor is not three-dimensional.
    pub fn ascending(indices: Tensor) -> Result<Self> {
        indices.size3()?;
        Ok(Self { kept: Kept::Uniform(indices), edits: Edits::default() })
    }

    /// Keeps `indices`, `[batch, kv_heads, kept]`, in any order, in each head.
    ///
    /// # Errors
    /// The tensor is not three-dimensional.
    pub fn uniform(indices: &Tensor) -> Result<Self> {
        Self::ascending(indices.f_to_kind(Kind::Int64)?.f_sort(-1, false)?.0)
    }

    /// Keeps the true positions of `mask`, `[batch, kv_heads, tokens]`; everything where all are.
    ///
    /// # Errors
    /// The tensor is not three-dimensional.
    pub fn from_mask(mask: &Tensor) -> Result<Self> {
        mask.size3()?;
        let (indices, indptr) = keep::listed(&mask.f_flatten(0, 1)?)?;
        let everything = indices.numel() == mask.numel();
        Ok(if everything { Self::all() } else { Self::ragged(RaggedIndices { indices, indptr }) })
    }

    /// Keeps the true positions of `mask`, `[batch, tokens]`, in every one of `kv_heads` KV heads.
    ///
    /// # Errors
    /// The tensor is not two-dimensional.
    pub fn from_token_mask(mask: &Tensor, kv_heads: i64) -> Result<Self> {
        let (batch, tokens) = mask.size2()?;
        if batch > 1 {
            return Self::from_mask(&mask.f_unsqueeze(1)?.f_expand([batch, kv_heads, tokens], false)?);
        }
        let (kept, _) = keep::listed(mask)?;
        Self::ascending(kept.f_view([1, 1, -1])?.f_expand([1, kv_heads, -1], false)?)
    }

    /// Keeps a list per KV head; [`Self::check`] says whether it is a valid one.
    pub fn ragged(indices: RaggedIndices) -> Self {
        Self { kept: Kept::Ragged(indices), edits: Edits::default() }
    }

    /// Keeps the listed indices of every KV head, `[batch * kv_heads][kept]`.
    ///
    /// # Errors
    /// libtorch cannot allocate on `device`.
    pub fn from_lists(lists: &[Vec<i64>], device: Device) -> Result<Self> {
        let mut indptr = vec![0];
        for list in lists {
            indptr.push(indptr[indptr.len() - 1] + list.len() as i64);
        }
        let indices = Tensor::f_from_slice(&lists.concat())?.f_to_device(device)?;
        Ok(Self::ragged(RaggedIndices { indices, indptr }))
    }

    /// The same entries, changed.
    pub fn with_edits(self, edits: Edits) -> Self {
        Self { edits, ..self }
    }

    /// What is kept of one KV head, for a batch of one: a uniform selection of that head alone.
    ///
    /// # Errors
    /// There is no such head.
    pub fn of_head(&self, head: i64) -> Result<Self> {
        let span = match &self.kept {
            Kept::Ragged(ragged) => {
                let (start, end) = (ragged.indptr[head as usize], ragged.indptr[head as usize + 1]);
                Some((start, end - start))
            }
            _ => None,
        };
        let own = |data: &Tensor| -> Result<Tensor> {
            Ok(match span {
                Some((start, length)) => data.f_narrow(0, start, length)?.f_unsqueeze(0)?.f_unsqueeze(0)?,
                None => data.f_narrow(1, head, 1)?,
            })
        };
        let edit = |data: &Option<Tensor>| data.as_ref().map(own).transpose();
        let kept = match &self.kept {
            Kept::All => Kept::All,
            Kept::Uniform(indices) | Kept::Ragged(RaggedIndices { indices, .. }) => Kept::Uniform(own(indices)?),
        };
        let channels = self.edits.channels.as_ref().map(|channels| channels.f_narrow(1, head, 1)).transpose()?;
        let edits = Edits { values: edit(&self.edits.values)?, channels, positions: edit(&self.edits.positions)? };
        Ok(Self { kept, edits })
    }

    /// Values of the entries kept of `values`, `[batch, kv_heads, tokens, head_dim]`: the new ones where there are
    /// any, in the dtype of the old.
    ///
    /// # Errors
    /// The selection is for values of another shape.
    pub fn kept_values(&self, values: &Tensor) -> Result<Tensor> {
        match &self.edits.values {
            Some(edited) => Ok(edited.f_to_kind(values.kind())?),
            None => self.kept.pick(values),
        }
    }

    /// What is changed of the entries kept.
    pub fn edits(&self) -> &Edits {
        &self.edits
    }

    /// The same selection over the same tensors.
    pub fn shallow_clone(&self) -> Self {
        let kept = match &self.kept {
            Kept::All => Kept::All,
            Kept::Uniform(indices) => Kept::Uniform(indices.shallow_clone()),
            Kept::Ragged(RaggedIndices { indices, indptr }) => {
                Kept::Ragged(RaggedIndices { indices: indices.shallow_clone(), indptr: indptr.clone() })
            }
        };
        Self { kept, edits: self.edits.shallow_clone() }
    }

    /// What survives.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Kept indices of every KV head, `[batch * kv_heads][kept]`, for a view of `tokens` tokens.
    ///
    /// # Errors
    /// libtorch refuses to copy the indices to the host.
    pub fn to_lists(&self, rows: usize, tokens: i64) -> Result<Vec<Vec<i64>>> {
        match &self.kept {
            Kept::All => Ok(vec![(0..tokens).collect(); rows]),
            Kept::Uniform(indices) => Ok(Vec::try_from(indices.f_flatten(0, 1)?)?),
            Kept::Ragged(ragged) => ragged.split(&ragged.indices),
        }
    }

    /// Positions that the entries kept are moved to, `[batch * kv_heads][kept]`; `None` where they stay.
    ///
    /// # Errors
    /// libtorch refuses to copy the positions to the host.
    pub fn moved_to(&self) -> Result<Option<Vec<Vec<i64>>>> {
        let Some(positions) = &self.edits.positions else { return Ok(None) };
        Ok(Some(match &self.kept {
            Kept::Ragged(ragged) => ragged.split(positions)?,
            _ => Vec::try_from(positions.f_flatten(0, 1)?)?,
        }))
    }

    /// Checks that the selection fits a view of `[batch, kv_heads, tokens]` ([`Self::check_fit`]) and leaves something
    /// of every sequence.
    ///
    /// # Errors
    /// [`Error::Input`] with the first violation.
    pub fn check(&self, batch: i64, kv_heads: i64, tokens: i64) -> Result<()> {
        self.check_fit(batch, kv_heads, tokens)?;
        let nothing = match &self.kept {
            Kept::All => false,
            Kept::Uniform(indices) => indices.numel() == 0,
            Kept::Ragged(RaggedIndices { indptr, .. }) => {
                !indptr.iter().step_by(kv_heads.max(1) as usize).is_sorted_by(|start, end| start < end)
            }
        };
        if nothing { Err(Error::input("selection keeps nothing at all")) } else { Ok(()) }
    }

    /// Checks that the selection fits a view of `[batch, kv_heads, tokens]`: one list per head, indices in range and
    /// strictly ascending.
    ///
    /// # Errors
    /// [`Error::Input`] with the first violation.
    pub fn check_fit(&self, batch: i64, kv_heads: i64, tokens: i64) -> Result<()> {
        self.check_edits(batch, kv_heads, tokens)?;
        let (indices, indptr) = match &self.kept {
            Kept::All => return Ok(()),
            Kept::Uniform(indices) => {
                let (batch, heads, kept) = indices.size3()?;
                (indices, Cow::from_iter((0..=batch * heads).map(|row| row * kept)))
            }
            Kept::Ragged(ragged) => (&ragged.indices, Cow::from(&ragged.indptr)),
        };
        let (rows, due) = (indptr.len() as i64 - 1, batch * kv_heads);
        if rows != due {
            return Err(Error::input(format!("selection for {rows} heads where there are {due}")));
        }
        let indices: Vec<i64> = indices.f_flatten(0, -1)?.try_into()?;
        for (row, part) in indptr.windows(2).enumerate() {
            let (head, kept) = (row as i64 % kv_heads, &indices[part[0] as usize..part[1] as usize]);
            if let Some(bad) = kept.iter().find(|index| !(0..tokens).contains(*index)) {
                return Err(Error::input(format!("selection keeps index {bad} of {tokens} tokens in KV head {head}")));
            }
            if let Some(pair) = kept.windows(2).find(|pair| pair[0] >= pair[1]) {
                return Err(Error::input(format!("selection keeps index {} twice in KV head {head}", pair[1])));
            }
        }
        Ok(())
    }

    /// Checks that edits list as many entries as are kept, and finite values.
    fn check_edits(&self, batch: i64, kv_heads: i64, tokens: i64) -> Result<()> {
        let entries = match &self.kept {
            Kept::All => vec![batch, kv_heads, tokens],
            Kept::Uniform(indices) => indices.size(),
            Kept::Ragged(ragged) => ragged.indices.size(),
        };
        let wrong = |what: &str, size: Vec<i64>| {
            Err(Error::input(format!("selection keeps entries {entries:?} and gives {what} of shape {size:?}")))
        };
        if let Some(values) = &self.edits.values {
            let size = values.size();
            if size.len() != entries.len() + 1 || size[..entries.len()] != entries {
                return wrong("new values", size);
            }
            if values.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
                return Err(Error::input("selection gives new values that are not finite"));
            }
        }
        if let Some(positions) = &self.edits.positions
            && positions.size() != entries
        {
            return wrong("new positions", positions.size());
        }
        match self.edits.channels.as_ref().map(Tensor::size).as_deref() {
            None => Ok(()),
            Some([b, h, channels]) if (*b, *h) == (batch, kv_heads) && *channels > 0 => Ok(()),
            Some(size) => wrong("key channels", size.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_becomes_ascending_lists_per_head() {
        let mask = Tensor::from_slice(&[true, false, true, false, false, true]).view([1, 2, 3]);
        let selection = Selection::from_mask(&mask).unwrap();
        assert_eq!(selection.to_lists(2, 3).unwrap(), [vec![0, 2], vec![2]]);
        selection.check(1, 2, 3).unwrap();
    }

    #[test]
    fn a_token_mask_holds_in_every_head() {
        let mask = Tensor::from_slice(&[true, false, true, false, false, true]);
        let alone = Selection::from_token_mask(&mask.view([1, 6]), 2).unwrap();
        assert_eq!(alone.to_lists(2, 6).unwrap(), [[0, 2, 5], [0, 2, 5]]);
        let batch = Selection::from_token_mask(&mask.view([2, 3]), 2).unwrap();
        assert_eq!(batch.to_lists(4, 3).unwrap(), [vec![0, 2], vec![0, 2], vec![2], vec![2]]);
    }

    #[test]
    fn uniform_selections_are_sorted() {
        let selection = Selection::uniform(&Tensor::from_slice(&[4i64, 0, 2]).view([1, 1, 3])).unwrap();
        assert_eq!(selection.to_lists(1, 5).unwrap(), [vec![0, 2, 4]]);
    }

    #[test]
    fn bad_selections_are_named() {
        let uniform = |list: &[i64]| Selection::uniform(&Tensor::from_slice(list).view([1, 1, -1])).unwrap();
        assert!(uniform(&[0, 7]).check(1, 1, 5).unwrap_err().to_string().contains("index 7 of 5 tokens"));
        assert!(uniform(&[-1, 3]).check(1, 1, 5).unwrap_err().to_string().contains("index -1"));
        assert!(uniform(&[3, 3]).check(1, 1, 5).unwrap_err().to_string().contains("index 3 twice"));
        assert!(uniform(&[0, 1]).check(1, 2, 5).unwrap_err().to_string().contains("1 heads where there are 2"));
        let masked = |mask: &[bool]| Selection::from_mask(&Tensor::from_slice(mask).view([1, 2, 1])).unwrap();
        masked(&[true, false]).check(1, 2, 1).unwrap();
        assert!(masked(&[false, false]).check(1, 2, 1).unwrap_err().to_string().contains("nothing at all"));
    }
}
