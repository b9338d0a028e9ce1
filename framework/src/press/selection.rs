//! What a press decides: which positions each KV head keeps.

use tch::{Kind, Tensor};

use crate::error::{Error, Result};

/// A press's decision about one layer.
///
/// Indices count from the start of the view that the press was given, and ascend within a head.
/// A selection is data: it can be inspected, composed, stored, and applied to a cache.
#[derive(Debug)]
pub struct Selection {
    kept: Kept,
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

impl Selection {
    /// Keeps everything.
    pub fn all() -> Self {
        Self { kept: Kept::All }
    }

    /// Keeps `indices`, `[batch, kv_heads, kept]`, in each head.
    ///
    /// # Errors
    /// The tensor is not three-dimensional.
    pub fn uniform(indices: &Tensor) -> Result<Self> {
        indices.size3()?;
        let (sorted, _) = indices.f_to_kind(Kind::Int64)?.f_sort(-1, false)?;
        Ok(Self { kept: Kept::Uniform(sorted) })
    }

    /// Keeps the true positions of `mask`, `[batch, kv_heads, tokens]`.
    ///
    /// # Errors
    /// The tensor is not three-dimensional.
    pub fn from_mask(mask: &Tensor) -> Result<Self> {
        let (batch, kv_heads, _) = mask.size3()?;
        let counts: Vec<i64> =
            mask.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Int64)?.f_flatten(0, -1)?.try_into()?;
        let mut indptr = Vec::with_capacity((batch * kv_heads) as usize + 1);
        indptr.push(0);
        for count in counts {
            indptr.push(indptr[indptr.len() - 1] + count);
        }
        // `nonzero` lists row after row, ascending within a row: the order this type promises.
        let indices = mask.f_nonzero()?.f_select(1, 2)?;
        Ok(Self { kept: Kept::Ragged(RaggedIndices { indices, indptr }) })
    }

    /// Keeps a list per KV head; [`Self::check`] says whether it is a valid one.
    pub fn ragged(indices: RaggedIndices) -> Self {
        Self { kept: Kept::Ragged(indices) }
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
        Self { kept }
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
            Kept::Ragged(ragged) => {
                let flat: Vec<i64> = Vec::try_from(&ragged.indices)?;
                Ok(ragged.indptr.windows(2).map(|part| flat[part[0] as usize..part[1] as usize].to_vec()).collect())
            }
        }
    }

    /// Checks that the selection fits a view of `[batch, kv_heads, tokens]`: one list per head, not all of a
    /// sequence empty, indices in range and strictly ascending.
    ///
    /// # Errors
    /// [`Error::Input`] with the first violation.
    pub fn check(&self, batch: i64, kv_heads: i64, tokens: i64) -> Result<()> {
        if let Kept::All = self.kept {
            return Ok(());
        }
        let rows = self.to_lists((batch * kv_heads) as usize, tokens)?;
        if rows.len() as i64 != batch * kv_heads {
            return Err(Error::input(format!(
                "selection for {} heads where there are {}",
                rows.len(),
                batch * kv_heads
            )));
        }
        if rows.chunks(kv_heads.max(1) as usize).any(|heads| heads.iter().all(Vec::is_empty)) {
            return Err(Error::input("selection keeps nothing at all"));
        }
        for (row, kept) in rows.iter().enumerate() {
            let head = row as i64 % kv_heads;
            if let Some(bad) = kept.iter().find(|index| !(0..tokens).contains(*index)) {
                return Err(Error::input(format!("selection keeps index {bad} of {tokens} tokens in KV head {head}")));
            }
            if let Some(pair) = kept.windows(2).find(|pair| pair[0] >= pair[1]) {
                return Err(Error::input(format!("selection keeps index {} twice in KV head {head}", pair[1])));
            }
        }
        Ok(())
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
