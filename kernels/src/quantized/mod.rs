//! Keys and values as small integers, in KIVI's layout (Liu et al., 2024, arXiv:2402.02750): keys are quantized per
//! channel in groups of tokens, because some channels of keys are large in every token; values per token in groups of
//! channels. Keys may be quantized per token too, and both may be rotated first ([`rotation`]).

mod multiply;
mod panels;
mod rotation;
#[cfg(test)]
mod tests;

pub(crate) use multiply::{Panels, fold, multiply, unshift};
pub(crate) use panels::{Group, Groups, Side, padded};
pub(crate) use rotation::rotate_row;

use panels::Role;
use tch::{TchError, Tensor};

/// Codes that lie side by side, whatever the instruction set: tokens of a group and padded channels are multiples of it.
pub const LANES: i64 = 16;

/// Bits of a code: what fits 32 bits a whole number of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bits {
    /// Values 0 to 3.
    Two,
    /// Values 0 to 15.
    Four,
    /// Values 0 to 255.
    Eight,
}

impl Bits {
    /// All there are, fewest first.
    pub const ALL: [Self; 3] = [Self::Two, Self::Four, Self::Eight];

    /// Bits of a code.
    pub const fn count(self) -> u32 {
        match self {
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// The largest code.
    pub const fn largest(self) -> u32 {
        (1 << self.count()) - 1
    }

    /// Codes in 32 bits.
    pub(crate) const fn per_word(self) -> usize {
        32 / self.count() as usize
    }
}

/// Which keys share a step and a zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeySteps {
    /// Those of a channel within a group of tokens.
    #[default]
    PerChannel,
    /// Those of a token within a group of channels, as values do.
    PerToken,
}

/// How numbers become codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Format {
    /// Bits of a code.
    pub bits: Bits,
    /// Tokens, or channels, that share a step and a zero; a multiple of [`LANES`].
    pub group: i64,
    /// Which keys share them.
    pub keys: KeySteps,
    /// Whether a Hadamard matrix rotates keys and values first, so that no channel is much larger than the others.
    pub hadamard: bool,
}

/// Quantized keys and values of some KV heads, each with a number of whole groups of tokens of its own.
#[derive(Debug)]
pub struct Quantized {
    pub(crate) format: Format,
    /// KV head `h` owns groups `indptr[h]..indptr[h + 1]`.
    pub(crate) indptr: Vec<i64>,
    pub(crate) keys: Side,
    pub(crate) values: Side,
}

impl Quantized {
    /// Quantizes rows, `[Σ rows, channels]` head after head, of which KV head `h` owns
    /// `group * (indptr[h + 1] - indptr[h])`. Keys may have fewer channels than values.
    ///
    /// # Errors
    /// The rows are no whole groups as `indptr` counts them, a group is no multiple of [`LANES`], or a value is not
    /// within float16.
    pub fn new(keys: &Tensor, values: &Tensor, indptr: Vec<i64>, format: Format) -> Result<Self, TchError> {
        let groups = whole_groups(&indptr, format.group, keys.size2()?.0)?;
        let side = |rows: &Tensor, role: Role| {
            let channels = rows.size2()?.1;
            Side::new(&rows.f_reshape([groups, format.group, channels])?, role, format)
        };
        Ok(Self { format, indptr, keys: side(keys, Role::Keys)?, values: side(values, Role::Values)? })
    }

    /// From what [`Self::tensors`] gave: codes and scales of `keys`, then of `values`, each of so many channels.
    ///
    /// # Errors
    /// The tensors' shapes or dtypes do not fit each other and `indptr`.
    pub fn restore(
        format: Format,
        indptr: Vec<i64>,
        channels: [i64; 2],
        keys: [Tensor; 2],
        values: [Tensor; 2],
    ) -> Result<Self, TchError> {
        let groups = indptr.last().copied().unwrap_or(0);
        whole_groups(&indptr, format.group, groups.checked_mul(format.group).unwrap_or(-1))?;
        let keys = Side::restore(keys, Role::Keys, channels[0], groups, format)?;
        let values = Side::restore(values, Role::Values, channels[1], groups, format)?;
        Ok(Self { format, indptr, keys, values })
    }

    /// Another handle on the same storage.
    pub fn share(&self) -> Self {
        Self { format: self.format, indptr: self.indptr.clone(), keys: self.keys.share(), values: self.values.share() }
    }

    /// How numbers became codes.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Offsets of the heads in groups.
    pub fn indptr(&self) -> &[i64] {
        &self.indptr
    }

    /// Channels of keys and of values.
    pub fn channels(&self) -> [i64; 2] {
        [self.keys.channels() as i64, self.values.channels() as i64]
    }

    /// Codes and scales by name.
    pub fn tensors(&self) -> [(&'static str, &Tensor); 4] {
        let ([key_codes, key_scales], [value_codes, value_scales]) = (self.keys.tensors(), self.values.tensors());
        [
            ("key_codes", key_codes),
            ("key_scales", key_scales),
            ("value_codes", value_codes),
            ("value_scales", value_scales),
        ]
    }

    /// Keys and values of one KV head again, float32 `[rows, channels]`, with torch operations: the reference of the
    /// kernels.
    ///
    /// # Errors
    /// There is no such head, or libtorch cannot allocate.
    pub fn unpacked(&self, head: usize) -> Result<[Tensor; 2], TchError> {
        let [start, end] = self.groups_of(head)?;
        let rows = |side: &Side| side.unpacked(start, end - start)?.f_flatten(0, 1);
        Ok([rows(&self.keys)?, rows(&self.values)?])
    }

    /// First group of a KV head, and the one behind its last.
    fn groups_of(&self, head: usize) -> Result<[i64; 2], TchError> {
        let own = self.indptr.get(head..head + 2).and_then(|pair| pair.try_into().ok());
        own.ok_or_else(|| {
            TchError::Shape(format!("the cache has {} KV heads, not {}", self.indptr.len() - 1, head + 1))
        })
    }

    /// How many groups a KV head has, and the addresses of their codes and scales, of keys and of values: multiples of
    /// 16 bytes.
    ///
    /// # Errors
    /// There is no such head.
    pub(crate) fn place(&self, head: usize) -> Result<(i64, [[u64; 2]; 2]), TchError> {
        let [start, end] = self.groups_of(head)?;
        Ok((end - start, [&self.keys, &self.values].map(|side| side.place(start))))
    }

    /// Rows of each KV head.
    pub fn lengths(&self) -> Vec<i64> {
        self.indptr.windows(2).map(|pair| (pair[1] - pair[0]) * self.format.group).collect()
    }

    /// Allocated bytes.
    pub fn bytes(&self) -> usize {
        let held: usize =
            self.tensors().iter().map(|(_, tensor)| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum();
        held + self.indptr.len() * size_of::<i64>()
    }
}

/// Groups in all, where `indptr` counts `rows` rows in ascending order.
fn whole_groups(indptr: &[i64], group: i64, rows: i64) -> Result<i64, TchError> {
    if group < 1 || group % LANES != 0 {
        return Err(TchError::Shape(format!("a group is a multiple of {LANES}, not {group}")));
    }
    let ascending = indptr.windows(2).all(|pair| pair[0] <= pair[1]) && indptr.first() == Some(&0);
    match indptr.last() {
        Some(&groups) if ascending && groups.checked_mul(group) == Some(rows) => Ok(groups),
        _ => Err(TchError::Shape(format!("{rows} rows are not groups of {group} as {indptr:?} counts them"))),
    }
}
