//! Keys or values as panels of codes, with the steps and zeros that make them numbers again.
//!
//! A number is `code * step + zero`. Of keys, tokens lie side by side and a product runs over channels; of values,
//! channels lie side by side and a product runs over tokens. Either way a *panel* holds [`LANES`] codes side by side and
//! as many below one another as a product takes: 32 bits of a lane hold consecutive ones, the first in the low bits.

use half::f16;
use tch::{Kind, TchError, Tensor};

use super::rotation::rotate;
use super::{Bits, Format, KeySteps, LANES};
use crate::cuda::VECTOR;
use crate::rows::{bytes, elements};
use crate::simd::Isa;

/// Bytes of a panel's row of 32-bit words.
pub(crate) const ROW: usize = LANES as usize * 4;

/// What is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Keys,
    Values,
}

/// Keys or values of whole groups of tokens.
#[derive(Debug)]
pub(crate) struct Side {
    role: Role,
    format: Format,
    channels: i64,
    /// Bytes: of keys `[groups, tokens / 16, words of channels, 64]`, of values `[groups, channels / 16, words of tokens, 64]`.
    codes: Tensor,
    /// Steps and zeros, float16: per channel `[groups, 1, 2, channels]`, per token `[groups, channels / group, 2, tokens]`.
    scales: Tensor,
}

/// Codes and scales of one group of tokens.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a> {
    /// `[panels, words, 64]`
    pub(crate) codes: &'a [u8],
    /// `[parts, 2, n]`
    pub(crate) scales: &'a [f16],
}

impl Group<'_> {
    /// Asks for all of it: the processor's own look-ahead ends with a page, and a group is half of one.
    ///
    /// # Safety
    /// The processor has `I`.
    #[inline(always)]
    pub(crate) unsafe fn prefetch<I: Isa>(self) {
        let scales = size_of_val(self.scales);
        let lines = |from: *const u8, bytes: usize| (0..bytes).step_by(64).map(move |line| from.wrapping_add(line));
        for line in lines(self.codes.as_ptr(), self.codes.len()).chain(lines(self.scales.as_ptr().cast(), scales)) {
            // SAFETY: the caller vouches for the processor.
            unsafe { I::prefetch(line) };
        }
    }
}

impl Side {
    /// Quantizes `rows`, `[groups, group, channels]`.
    pub(super) fn new(rows: &Tensor, role: Role, format: Format) -> Result<Self, TchError> {
        let channels = rows.size3()?.2;
        let rows = rows.f_to_kind(Kind::Float)?;
        let rows = if format.hadamard { rotate(&rows)? } else { rows };
        let missing = [0, padded(channels) - channels];
        let (codes, scales) = if per_channel(role, format) {
            let (codes, scales) = quantize(&rows, 1, format.bits)?;
            (codes, scales.f_constant_pad_nd(missing)?.f_unsqueeze(1)?)
        } else {
            let parts = parts(channels, format.group).map(|(start, length)| {
                let (codes, scales) = quantize(&rows.f_narrow(2, start, length)?, 2, format.bits)?;
                Ok((codes, scales.f_transpose(1, 2)?))
            });
            let (codes, scales): (Vec<_>, Vec<_>) = parts.collect::<Result<Vec<_>, TchError>>()?.into_iter().unzip();
            (Tensor::f_cat(&codes, 2)?, Tensor::f_stack(&scales, 1)?)
        };
        let codes = codes.f_constant_pad_nd(missing)?;
        let lanes_first = if role == Role::Keys { codes } else { codes.f_transpose(1, 2)? };
        let codes = pack(&lanes_first, format.bits)?;
        Ok(Self { role, format, channels, codes, scales: scales.f_contiguous()? })
    }

    /// From what [`Self::tensors`] gave.
    pub(super) fn restore(
        [codes, scales]: [Tensor; 2],
        role: Role,
        channels: i64,
        groups: i64,
        format: Format,
    ) -> Result<Self, TchError> {
        let (group, wide) = (format.group, padded(channels.clamp(1, 1 << 20)));
        let (across, along) = if role == Role::Keys { (group, wide) } else { (wide, group) };
        let due = [groups, across / LANES, along / format.bits.per_word() as i64, ROW as i64];
        let scales_due = match per_channel(role, format) {
            true => [groups, 1, 2, wide],
            false => [groups, parts(wide, group).count() as i64, 2, group],
        };
        if codes.size() != due
            || scales.size() != scales_due
            || (codes.kind(), scales.kind()) != (Kind::Uint8, Kind::Half)
        {
            return Err(TchError::Shape(format!(
                "quantized codes {:?} and scales {:?} where {due:?} and {scales_due:?} are due",
                codes.size(),
                scales.size()
            )));
        }
        Ok(Self { role, format, channels, codes: aligned(&codes)?, scales: aligned(&scales)? })
    }

    pub(super) fn share(&self) -> Self {
        Self { codes: self.codes.shallow_clone(), scales: self.scales.shallow_clone(), ..*self }
    }

    /// Channels of a row.
    pub(crate) fn channels(&self) -> usize {
        self.channels as usize
    }

    /// Codes and scales.
    pub(super) fn tensors(&self) -> [&Tensor; 2] {
        [&self.codes, &self.scales]
    }

    /// Rows again, float32 `[count, group, channels]`, of `count` groups from `first` on.
    pub(super) fn unpacked(&self, first: i64, count: i64) -> Result<Tensor, TchError> {
        let codes = unpack(&self.codes.f_narrow(0, first, count)?, self.format.bits)?;
        let codes = if self.role == Role::Keys { codes } else { codes.f_transpose(1, 2)? };
        let scales = self.scales.f_narrow(0, first, count)?.f_to_kind(Kind::Float)?;
        let number = |codes: &Tensor, scales: &Tensor, along: i64| {
            codes.f_mul(&scales.f_narrow(along, 0, 1)?)?.f_add(&scales.f_narrow(along, 1, 1)?)
        };
        let rows = if per_channel(self.role, self.format) {
            number(&codes, &scales.f_select(1, 0)?, 1)?.f_narrow(2, 0, self.channels)?
        } else {
            let parts = parts(self.channels, self.format.group).enumerate().map(|(part, (start, length))| {
                let scales = scales.f_select(1, part as i64)?.f_transpose(1, 2)?;
                number(&codes.f_narrow(2, start, length)?, &scales, 2)
            });
            Tensor::f_cat(&parts.collect::<Result<Vec<_>, TchError>>()?, 2)?
        };
        if self.format.hadamard { rotate(&rows) } else { Ok(rows) }
    }

    /// Where the codes and scales of a group lie.
    pub(super) fn place(&self, group: i64) -> [u64; 2] {
        self.tensors().map(|data| {
            let each = data.size()[1..].iter().product::<i64>() as usize * data.kind().elt_size_in_bytes();
            data.data_ptr() as u64 + group as u64 * each as u64
        })
    }

    /// The groups as the kernels read them.
    pub(crate) fn groups(&self) -> Result<Groups<'_>, TchError> {
        let (codes, scales) = (self.codes.size(), self.scales.size());
        Ok(Groups {
            codes: bytes(&self.codes)?,
            scales: elements(&self.scales)?,
            code_bytes: codes[1..].iter().product::<i64>() as usize,
            scale_count: scales[1..].iter().product::<i64>() as usize,
        })
    }
}

/// All groups of a side.
#[derive(Clone, Copy)]
pub(crate) struct Groups<'a> {
    codes: &'a [u8],
    scales: &'a [f16],
    code_bytes: usize,
    scale_count: usize,
}

impl<'a> Groups<'a> {
    /// Group `index`; panics where there is none.
    pub(crate) fn get(&self, index: usize) -> Group<'a> {
        Group {
            codes: &self.codes[index * self.code_bytes..][..self.code_bytes],
            scales: &self.scales[index * self.scale_count..][..self.scale_count],
        }
    }
}

/// The same, contiguous from a multiple of [`VECTOR`] on: a view of a file or of a larger tensor may start anywhere.
fn aligned(data: &Tensor) -> Result<Tensor, TchError> {
    let data = data.f_contiguous()?;
    if (data.data_ptr() as u64).is_multiple_of(VECTOR) { Ok(data) } else { data.f_alias_copy() }
}

fn per_channel(role: Role, format: Format) -> bool {
    role == Role::Keys && format.keys == KeySteps::PerChannel
}

/// Channels with those that fill up the last lanes.
pub(crate) fn padded(channels: i64) -> i64 {
    (channels + LANES - 1) / LANES * LANES
}

/// First channel and number of channels of each part that shares a step.
fn parts(channels: i64, group: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..channels).step_by(group as usize).map(move |start| (start, group.min(channels - start)))
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
    let step = most.f_sub(&least)?.f_div_scalar(i64::from(bits.largest()))?;
    // Codes are those of the step and zero that are stored. A group of equal values has a step of zero.
    let scales = Tensor::f_cat(&[step, least], dim)?.f_to_kind(Kind::Half)?;
    if scales.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
        return Err(TchError::Shape("keys or values beyond float16 cannot be quantized".into()));
    }
    let stored = scales.f_to_kind(Kind::Float)?;
    let (step, zero) = (stored.f_narrow(dim, 0, 1)?, stored.f_narrow(dim, 1, 1)?);
    let codes = data.f_sub(&zero)?.f_div(&step)?.f_nan_to_num(0.0, 0.0, 0.0)?;
    Ok((codes.f_round()?.f_clamp(0.0, f64::from(bits.largest()))?, scales))
}

/// What the codes in a byte are multiplied by.
fn places(bits: Bits, like: &Tensor) -> Result<Tensor, TchError> {
    let places: Vec<i32> = (0..8 / bits.count()).map(|field| 1 << (field * bits.count())).collect();
    Tensor::f_from_slice(&places)?.f_to_device(like.device())
}

/// Codes `[groups, across, along]` into panels.
fn pack(codes: &Tensor, bits: Bits) -> Result<Tensor, TchError> {
    let (groups, across, along) = codes.size3()?;
    let words = along / bits.per_word() as i64;
    let places = places(bits, codes)?;
    let fields = codes.f_to_kind(Kind::Int)?.f_reshape([
        groups,
        across / LANES,
        LANES,
        words,
        4,
        8 / i64::from(bits.count()),
    ])?;
    let packed = fields.f_mul(&places)?.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Int)?;
    let words_first = packed.f_permute([0, 1, 3, 2, 4])?.f_to_kind(Kind::Uint8)?.f_contiguous()?;
    words_first.f_view([groups, across / LANES, words, ROW as i64])
}

/// Panels into codes, float32 `[groups, across, along]`.
fn unpack(bytes: &Tensor, bits: Bits) -> Result<Tensor, TchError> {
    let (groups, panels, words, _) = bytes.size4()?;
    let lanes_first = bytes.f_view([groups, panels, words, LANES, 4])?.f_permute([0, 1, 3, 2, 4])?.f_unsqueeze(-1)?;
    let fields = lanes_first.f_to_kind(Kind::Int)?.f_div_tensor_mode(&places(bits, bytes)?, "floor")?;
    let codes = fields.f_remainder(i64::from(bits.largest()) + 1)?.f_to_kind(Kind::Float)?;
    codes.f_reshape([groups, panels * LANES, words * bits.per_word() as i64])
}
