//! Keys and values as small integers, in KIVI's layout (Liu et al., 2024, arXiv:2402.02750): keys are quantized per
//! channel in groups of tokens, because some channels of keys are large in every token; values per token.

#[cfg(test)]
mod tests;
mod unpack;

pub(crate) use unpack::{unpack_keys, unpack_values};

use tch::{Kind, TchError, Tensor};

/// Bits of a code: what fits a byte a whole number of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    /// Four codes a byte.
    Two,
    /// Two codes a byte.
    Four,
    /// One code a byte.
    Eight,
}

impl Bits {
    /// Codes in a byte.
    pub fn per_byte(self) -> i64 {
        8 / i64::from(self.count())
    }

    /// Bits of a code.
    pub fn count(self) -> u32 {
        match self {
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// The largest code.
    fn largest(self) -> i64 {
        (1 << self.count()) - 1
    }
}

/// Quantized keys and values of some KV heads, each with a number of whole groups of its own.
///
/// An element is `code * step + zero`. A byte holds the codes of channels `j`, `j + head_dim / n`, .. for `n` codes a
/// byte, the first in the low bits.
#[derive(Debug)]
pub struct Quantized {
    /// Bits of a code.
    pub(crate) bits: Bits,
    /// Tokens of a group of keys.
    pub(crate) group: i64,
    /// KV head `h` owns groups `indptr[h]..indptr[h + 1]`.
    pub(crate) indptr: Vec<i64>,
    /// `[rows, head_dim / codes a byte]`, bytes
    pub(crate) key_codes: Tensor,
    /// Step and zero of every channel of a group, float16 `[groups, 2, head_dim]`
    pub(crate) key_scales: Tensor,
    /// `[rows, head_dim / codes a byte]`, bytes
    pub(crate) value_codes: Tensor,
    /// Step and zero of every token, float16 `[rows, 2]`
    pub(crate) value_scales: Tensor,
}

impl Quantized {
    /// Quantizes rows, `[Σ rows, head_dim]` head after head, of which KV head `h` owns `group * (indptr[h + 1] - indptr[h])`.
    ///
    /// # Errors
    /// The rows are no whole groups as `indptr` counts them, a byte's codes do not divide the channels, or a value is not
    /// within float16.
    pub fn new(keys: &Tensor, values: &Tensor, indptr: Vec<i64>, bits: Bits, group: i64) -> Result<Self, TchError> {
        let (rows, head_dim) = keys.size2()?;
        let groups = whole_groups(&indptr, group, rows)?;
        if head_dim % bits.per_byte() != 0 || values.size() != keys.size() {
            return Err(TchError::Shape(format!(
                "keys {:?} and values {:?} cannot be quantized with {} codes a byte",
                keys.size(),
                values.size(),
                bits.per_byte()
            )));
        }
        let (key_codes, key_scales) =
            quantize(&keys.f_to_kind(Kind::Float)?.f_view([groups, group, head_dim])?, 1, bits)?;
        let (value_codes, value_scales) = quantize(&values.f_to_kind(Kind::Float)?, 1, bits)?;
        Ok(Self {
            bits,
            group,
            indptr,
            key_codes: pack(&key_codes.f_view([rows, head_dim])?, bits)?,
            key_scales,
            value_codes: pack(&value_codes, bits)?,
            value_scales: value_scales.f_view([rows, 2])?,
        })
    }

    /// From what [`Self::tensors`] gave: codes and scales of `keys`, then of `values`.
    ///
    /// # Errors
    /// The tensors' shapes or dtypes do not fit each other and `indptr`.
    pub fn restore(
        bits: Bits,
        group: i64,
        indptr: Vec<i64>,
        [key_codes, key_scales]: [Tensor; 2],
        [value_codes, value_scales]: [Tensor; 2],
    ) -> Result<Self, TchError> {
        let (rows, width) = value_codes.size2()?;
        let head_dim = width * bits.per_byte();
        let groups = whole_groups(&indptr, group, rows)?;
        let fits = key_codes.size() == [rows, width]
            && key_scales.size() == [groups, 2, head_dim]
            && value_scales.size() == [rows, 2]
            && [&key_codes, &value_codes].iter().all(|codes| codes.kind() == Kind::Uint8)
            && [&key_scales, &value_scales].iter().all(|scales| scales.kind() == Kind::Half);
        if !fits {
            return Err(TchError::Shape(format!(
                "quantized codes {:?}, scales {:?}",
                key_codes.size(),
                key_scales.size()
            )));
        }
        Ok(Self { bits, group, indptr, key_codes, key_scales, value_codes, value_scales })
    }

    /// Another handle on the same storage.
    pub fn share(&self) -> Self {
        Self {
            bits: self.bits,
            group: self.group,
            indptr: self.indptr.clone(),
            key_codes: self.key_codes.shallow_clone(),
            key_scales: self.key_scales.shallow_clone(),
            value_codes: self.value_codes.shallow_clone(),
            value_scales: self.value_scales.shallow_clone(),
        }
    }

    /// Bits of a code.
    pub fn bits(&self) -> Bits {
        self.bits
    }

    /// Tokens of a group of keys.
    pub fn group(&self) -> i64 {
        self.group
    }

    /// Offsets of the heads in groups.
    pub fn indptr(&self) -> &[i64] {
        &self.indptr
    }

    /// Codes and scales by name.
    pub fn tensors(&self) -> [(&'static str, &Tensor); 4] {
        [
            ("key_codes", &self.key_codes),
            ("key_scales", &self.key_scales),
            ("value_codes", &self.value_codes),
            ("value_scales", &self.value_scales),
        ]
    }

    /// Keys and values again, float32 `[rows, head_dim]`, with torch operations: the reference of the kernels.
    ///
    /// # Errors
    /// libtorch cannot allocate.
    pub fn unpacked(&self) -> Result<[Tensor; 2], TchError> {
        let rows = self.value_codes.size2()?.0;
        let keys = unpack(&self.key_codes, self.bits)?;
        let head_dim = keys.size2()?.1;
        let keys = keys.f_view([rows / self.group, self.group, head_dim])?;
        let scales = self.key_scales.f_to_kind(Kind::Float)?;
        let keys = keys.f_mul(&scales.f_narrow(1, 0, 1)?)?.f_add(&scales.f_narrow(1, 1, 1)?)?;
        let scales = self.value_scales.f_to_kind(Kind::Float)?;
        let values = unpack(&self.value_codes, self.bits)?;
        let values = values.f_mul(&scales.f_narrow(1, 0, 1)?)?.f_add(&scales.f_narrow(1, 1, 1)?)?;
        Ok([keys.f_view([rows, head_dim])?, values])
    }

    /// Offsets of the heads in rows.
    pub fn row_indptr(&self) -> Vec<i64> {
        self.indptr.iter().map(|groups| groups * self.group).collect()
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
    let ascending = indptr.windows(2).all(|pair| pair[0] <= pair[1]) && indptr.first() == Some(&0);
    match indptr.last() {
        Some(&groups) if ascending && group >= 1 && groups.checked_mul(group) == Some(rows) => Ok(groups),
        _ => Err(TchError::Shape(format!("{rows} rows are not groups of {group} as {indptr:?} counts them"))),
    }
}

/// Codes of `data`, as float32 integers, and their step and zero (float16, along a new dimension in the place of `dim`),
/// each the same over dimension `dim`.
fn quantize(data: &Tensor, dim: i64, bits: Bits) -> Result<(Tensor, Tensor), TchError> {
    if data.numel() == 0 {
        let mut size = data.size();
        size[dim as usize] = 2;
        return Ok((data.shallow_clone(), Tensor::f_zeros(&size, (Kind::Half, data.device()))?));
    }
    let (least, most) = (data.f_amin([dim], true)?, data.f_amax([dim], true)?);
    let step = most.f_sub(&least)?.f_div_scalar(bits.largest())?;
    // Codes are those of the step and zero that are stored. A group of equal values has a step of zero.
    let scales = Tensor::f_cat(&[step, least], dim)?.f_to_kind(Kind::Half)?;
    if scales.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
        return Err(TchError::Shape("keys or values beyond float16 cannot be quantized".into()));
    }
    let stored = scales.f_to_kind(Kind::Float)?;
    let (step, zero) = (stored.f_narrow(dim, 0, 1)?, stored.f_narrow(dim, 1, 1)?);
    let codes = data.f_sub(&zero)?.f_div(&step)?.f_nan_to_num(0.0, 0.0, 0.0)?;
    Ok((codes.f_round()?.f_clamp(0.0, bits.largest() as f64)?, scales))
}

/// Codes `[rows, head_dim]` into bytes.
fn pack(codes: &Tensor, bits: Bits) -> Result<Tensor, TchError> {
    let (rows, head_dim) = codes.size2()?;
    let fields = codes.f_to_kind(Kind::Int)?.f_view([rows, bits.per_byte(), head_dim / bits.per_byte()])?;
    let mut packed = Tensor::f_zeros([rows, head_dim / bits.per_byte()], (Kind::Int, codes.device()))?;
    for field in 0..bits.per_byte() {
        let shifted = fields.f_select(1, field)?.f_mul_scalar(1i64 << (field * i64::from(bits.count())))?;
        packed = packed.f_add(&shifted)?;
    }
    packed.f_to_kind(Kind::Uint8)
}

/// Bytes into codes, float32 `[rows, head_dim]`.
fn unpack(bytes: &Tensor, bits: Bits) -> Result<Tensor, TchError> {
    let wide = bytes.f_to_kind(Kind::Int)?;
    let fields = (0..bits.per_byte())
        .map(|field| {
            let shifted = wide.f_div_scalar_mode(1i64 << (field * i64::from(bits.count())), "floor")?;
            shifted.f_remainder(bits.largest() + 1)
        })
        .collect::<Result<Vec<_>, TchError>>()?;
    Tensor::f_cat(&fields, 1)?.f_to_kind(Kind::Float)
}
