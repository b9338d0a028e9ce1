//! Rows of heads as kernels read them: where they lie, at the tensor's own strides.

use tch::{TchError, Tensor};

/// Bytes that a thread loads at a time, from a multiple of as many.
pub(crate) const VECTOR: u64 = 16;

/// Where the rows of heads lie, as `heads.cuh` has it: an address, and the strides of sequences, heads and tokens in
/// elements; 0 where an axis is repeated.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    address: u64,
    strides: [u64; 3],
}

impl Rows {
    /// No rows at all.
    pub(crate) const NONE: Self = Self { address: 0, strides: [0; 3] };
}

/// A tensor `[batch, heads, tokens, width]`, `[batch, heads, tokens]` being of width 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadRows {
    /// Where they lie.
    pub(crate) rows: Rows,
    /// Sequences, heads and tokens.
    pub(crate) extents: [u32; 3],
    /// Elements of a row.
    pub(crate) width: u32,
    /// Bytes of an element.
    bytes: u64,
}

impl HeadRows {
    /// Rows of a tensor; `None` where the elements of a row do not lie one after another.
    ///
    /// # Errors
    /// The tensor has another number of dimensions, or more entries than kernels count.
    pub(crate) fn of(tensor: &Tensor) -> Result<Option<Self>, TchError> {
        let (mut sizes, mut strides) = (tensor.size(), tensor.stride());
        if sizes.len() == 3 {
            sizes.push(1);
            strides.push(1);
        }
        if sizes.len() != 4 {
            return Err(TchError::Shape(format!("[batch, heads, tokens, width] is due, not {sizes:?}")));
        }
        if sizes[3] > 1 && strides[3] != 1 {
            return Ok(None);
        }
        let beyond = |_| TchError::Shape(format!("{sizes:?} is beyond what kernels count to"));
        let [batch, heads, tokens, width] = [sizes[0], sizes[1], sizes[2], sizes[3]].map(u32::try_from);
        // An axis of one index has no stride that matters.
        let stride = |axis: usize| if sizes[axis] > 1 { strides[axis] as u64 } else { 0 };
        Ok(Some(Self {
            rows: Rows { address: tensor.data_ptr() as u64, strides: [stride(0), stride(1), stride(2)] },
            extents: [batch.map_err(beyond)?, heads.map_err(beyond)?, tokens.map_err(beyond)?],
            width: width.map_err(beyond)?,
            bytes: tensor.kind().elt_size_in_bytes() as u64,
        }))
    }

    /// Rows of a tensor, and what holds them: the tensor itself, or a copy where the elements of a row do not lie one after
    /// another.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub(crate) fn of_or_copy(tensor: &Tensor) -> Result<(Tensor, Self), TchError> {
        let copy = match Self::of(tensor)? {
            Some(rows) => return Ok((tensor.shallow_clone(), rows)),
            None => tensor.f_contiguous()?,
        };
        let rows = Self::of(&copy)?.ok_or_else(|| TchError::Shape("rows with gaps".into()))?;
        Ok((copy, rows))
    }

    /// Heads of all sequences together: as many as [`HEADS`] at most, the extent of a grid.
    ///
    /// # Errors
    /// There are more.
    pub(crate) fn heads(&self) -> Result<u32, TchError> {
        let [batch, heads, _] = self.extents;
        let all = u64::from(batch) * u64::from(heads);
        u32::try_from(all)
            .ok()
            .filter(|all| *all <= HEADS)
            .ok_or_else(|| TchError::Shape(format!("{all} heads are beyond one launch, which has {HEADS}")))
    }

    /// The widest word, in bytes, that every row is a number of and starts at a multiple of.
    pub(crate) fn word(&self) -> u64 {
        let Rows { address, strides } = self.rows;
        let ends = strides.map(|stride| stride * self.bytes).into_iter().fold(address, |ends, end| ends | end);
        let row = u64::from(self.width) * self.bytes;
        // The lowest bit that is set in any of them.
        1 << (ends | row | VECTOR).trailing_zeros()
    }

    /// The same rows in words of `word` bytes, and the words of a row.
    ///
    /// # Errors
    /// A row has more than kernels count.
    pub(crate) fn in_words(&self, word: u64) -> Result<(Rows, u32), TchError> {
        let words = u64::from(self.width) * self.bytes / word;
        let words = u32::try_from(words).map_err(|_| TchError::Shape(format!("{words} words are too long a row")))?;
        let strides = self.rows.strides.map(|stride| stride * self.bytes / word);
        Ok((Rows { strides, ..self.rows }, words))
    }

    /// Whether every row starts at a multiple of 16 bytes and ends at one.
    pub(crate) fn aligned(&self) -> bool {
        self.word() == VECTOR
    }
}

/// Blocks along the second and third axis of a grid, at most.
pub(crate) const HEADS: u32 = 65_535;

/// Rows of either side of a tile, as `tile.cuh` has them.
pub(crate) const TILE: u32 = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::{Device, Kind};

    use super::*;
    use crate::testing::arranged;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

        #[test]
        fn every_element_is_where_its_row_says(
            batch in 1i64..4, heads in 1i64..4, tokens in 1i64..9, width in 1i64..20,
            arrangement in 0u8..3, (first, repeated) in (0i64..3, any::<bool>()),
            kind in prop_oneof![Just(Kind::Float), Just(Kind::Half), Just(Kind::Int64)],
        ) {
            let count = batch * heads * (tokens + first) * width;
            let all = Tensor::arange(count, (Kind::Int64, Device::Cpu)).remainder(2048).to_kind(kind);
            let all = arranged(&all.view([batch, heads, tokens + first, width]), arrangement);
            let mut data = all.narrow(2, first, tokens);
            if repeated {
                data = data.narrow(1, 0, 1).expand([batch, 3, tokens, width], false);
            }
            let rows = HeadRows::of(&data).unwrap().unwrap();
            prop_assert_eq!(rows.extents.map(i64::from).to_vec(), data.size()[..3].to_vec());
            let step = rows.word();
            let (words, count) = rows.in_words(step).unwrap();
            prop_assert!(step.is_power_of_two() && step <= 16);
            prop_assert_eq!(u64::from(count) * step, u64::from(rows.width) * rows.bytes);
            for (sequence, head, token) in [(0, 0, 0), (batch - 1, data.size()[1] - 1, tokens - 1)] {
                let there = data.select(0, sequence).select(0, head).select(0, token).data_ptr() as u64;
                let [s, h, t] = rows.rows.strides;
                let offset = sequence as u64 * s + head as u64 * h + token as u64 * t;
                let ours = rows.rows.address + offset * kind.elt_size_in_bytes() as u64;
                prop_assert_eq!(ours, there);
                prop_assert_eq!(ours % step, 0);
                let [s, h, t] = words.strides;
                let offset = sequence as u64 * s + head as u64 * h + token as u64 * t;
                prop_assert_eq!(words.address + offset * step, there);
            }
        }
    }

    #[test]
    fn rows_with_gaps_within_are_none_and_other_shapes_are_refused() {
        let data = Tensor::zeros([2, 3, 4, 5], (Kind::Float, Device::Cpu));
        assert_eq!(HeadRows::of(&data.transpose(2, 3)).unwrap(), None);
        let (copy, rows) = HeadRows::of_or_copy(&data.transpose(2, 3)).unwrap();
        assert!(copy.is_contiguous() && rows.rows.address == copy.data_ptr() as u64);
        assert!(HeadRows::of(&data.get(0).get(0)).is_err());
        let many = Tensor::zeros([1], (Kind::Float, Device::Cpu)).expand([300, 300, 1, 1], false);
        assert!(HeadRows::of(&many).unwrap().unwrap().heads().is_err());
    }
}
