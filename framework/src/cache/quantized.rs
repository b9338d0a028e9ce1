//! Quantized layout: small integers, with the last pairs of each head in full precision.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use tch::{Kind, Tensor};

use super::Layout;
use super::ragged::Ragged;
use crate::error::{During, Error, Result};
use pressroom_kernels::attention::Part;
use pressroom_kernels::quantized::{Bits, Format, KeySteps, LANES, Quantized as Store};

/// How the KV pairs of a context are quantized. Displays as its label in reports: what differs from the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantization {
    /// How numbers become codes.
    pub format: Format,
    /// Fewest tokens at the end of each KV head that keep full precision.
    pub residual: i64,
}

impl Quantization {
    /// What groups are multiples of.
    pub const GROUP_UNIT: i64 = LANES;

    /// KIVI's layout with so many bits: groups of 64, the last 128 tokens in full precision.
    pub fn of(bits: Bits) -> Self {
        Self { format: Format { bits, group: 64, keys: KeySteps::PerChannel, hadamard: false }, residual: 128 }
    }
}

impl std::fmt::Display for Quantization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { format: Format { bits, group, keys, hadamard }, residual } = *self;
        let usual = Self::of(bits);
        write!(f, "int{}", bits.count())?;
        if group != usual.format.group {
            write!(f, " group {group}")?;
        }
        if residual != usual.residual {
            write!(f, " residual {residual}")?;
        }
        if keys == KeySteps::PerToken {
            f.write_str(" per-token")?;
        }
        f.write_str(if hadamard { " hadamard" } else { "" })
    }
}

impl Serialize for Quantization {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Format { bits, group, keys, hadamard } = self.format;
        let mut fields = serializer.serialize_struct("Quantization", 5)?;
        fields.serialize_field("bits", &bits.count())?;
        fields.serialize_field("group", &group)?;
        fields.serialize_field("residual", &self.residual)?;
        fields.serialize_field("keys", if keys == KeySteps::PerToken { "per-token" } else { "per-channel" })?;
        fields.serialize_field("hadamard", &hadamard)?;
        fields.end()
    }
}

/// Whole groups of each KV head quantized, the rest in full precision. Keys may have fewer channels than values.
#[derive(Debug)]
pub(super) struct Quantized {
    store: Store,
    rest: Ragged,
    residual: i64,
}

impl Quantized {
    pub(super) const NAME: &str = "quantized";

    /// Quantizes what another layout holds.
    pub(super) fn of(layout: &dyn Layout, options: Quantization) -> Result<Self> {
        let Quantization { format, residual } = options;
        let group = format.group;
        if group < 1 || residual < 0 {
            return Err(Error::input(format!("groups of {group} tokens and a residual of {residual} cannot be")));
        }
        let (mut packed, mut rest) = ([vec![], vec![]], [vec![], vec![]]);
        let (mut groups, mut rows) = (vec![0], vec![0]);
        for (head, length) in layout.lengths().into_iter().enumerate() {
            let count = (length - residual).max(0) / group;
            let (keys, values) = layout.head(head)?;
            for (side, data) in [keys, values].iter().enumerate() {
                packed[side].push(data.f_narrow(0, 0, count * group)?);
                rest[side].push(data.f_narrow(0, count * group, length - count * group)?);
            }
            groups.push(groups[head] + count);
            rows.push(rows[head] + length - count * group);
        }
        let [keys, values] = [Tensor::f_cat(&packed[0], 0)?, Tensor::f_cat(&packed[1], 0)?];
        let store = Store::new(&keys, &values, groups, format).during("quantizing a cache", &[&keys, &values])?;
        let rest = Ragged::new(Tensor::f_cat(&rest[0], 0)?, Tensor::f_cat(&rest[1], 0)?, rows)?;
        Ok(Self { store, rest, residual })
    }

    /// From the tensors that [`Layout::tensors`] gives.
    pub(super) fn from_tensors(take: &dyn Fn(&str) -> Result<Tensor>) -> Result<Self> {
        let numbers = |tensor: Tensor| -> Result<Vec<i64>> { Ok(Vec::try_from(tensor)?) };
        let format = numbers(take("format")?)?;
        let &[bits, group, per_token, hadamard, residual, key_channels, value_channels] = &format[..] else {
            return Err(Error::input(format!("a quantized cache of format {format:?}")));
        };
        let known = Bits::ALL.into_iter().find(|known| i64::from(known.count()) == bits);
        let bits = known.ok_or_else(|| Error::input(format!("a quantized cache of {bits} bits")))?;
        let keys = if per_token == 0 { KeySteps::PerChannel } else { KeySteps::PerToken };
        let format = Format { bits, group, keys, hadamard: hadamard != 0 };
        let keys = [take("key_codes")?, take("key_scales")?];
        let values = [take("value_codes")?, take("value_scales")?];
        let store = Store::restore(format, numbers(take("groups")?)?, [key_channels, value_channels], keys, values)?;
        let rest = Ragged::new(take("keys")?, take("values")?, numbers(take("indptr")?)?)?;
        if rest.lengths().len() + 1 != store.indptr().len() {
            return Err(Error::input("a quantized cache whose parts have different numbers of heads"));
        }
        Ok(Self { store, rest, residual })
    }
}

impl Layout for Quantized {
    fn name(&self) -> String {
        Self::NAME.into()
    }

    fn lengths(&self) -> Vec<i64> {
        self.store.lengths().into_iter().zip(self.rest.lengths()).map(|(packed, rest)| packed + rest).collect()
    }

    fn parts(&self) -> Result<Vec<Part<'_>>> {
        let mut parts = vec![Part::Quantized { store: &self.store, channels: None }];
        parts.append(&mut self.rest.parts()?);
        Ok(parts)
    }

    fn share(&self) -> Box<dyn Layout> {
        Box::new(Self { store: self.store.share(), rest: self.rest.handle(), residual: self.residual })
    }

    fn quantized(&self, options: Quantization) -> Result<Box<dyn Layout>> {
        Ok(Box::new(Self::of(self, options)?))
    }

    fn quantization(&self) -> Option<Quantization> {
        Some(Quantization { format: self.store.format(), residual: self.residual })
    }

    fn head(&self, head: usize) -> Result<(Tensor, Tensor)> {
        let (rest_keys, rest_values) = self.rest.head(head)?;
        let [keys, values] = self.store.unpacked(head)?;
        let whole = |packed: &Tensor, rest: &Tensor| -> Result<Tensor> {
            Ok(Tensor::f_cat(&[&packed.f_to_kind(rest.kind())?, rest], 0)?)
        };
        Ok((whole(&keys, &rest_keys)?, whole(&values, &rest_values)?))
    }

    fn bytes(&self) -> usize {
        self.store.bytes() + self.rest.bytes()
    }

    fn tensors(&self) -> Result<Vec<(&'static str, Tensor)>> {
        let Format { bits, group, keys, hadamard } = self.store.format();
        let [key_channels, value_channels] = self.store.channels();
        let (per_token, hadamard) = (i64::from(keys == KeySteps::PerToken), i64::from(hadamard));
        let bits = i64::from(bits.count());
        let format = [bits, group, per_token, hadamard, self.residual, key_channels, value_channels];
        let mut tensors = vec![("format", Tensor::f_from_slice(&format)?.f_to_kind(Kind::Int64)?)];
        tensors.push(("groups", Tensor::f_from_slice(self.store.indptr())?));
        tensors.extend(self.store.tensors().map(|(name, tensor)| (name, tensor.shallow_clone())));
        tensors.append(&mut self.rest.tensors()?);
        Ok(tensors)
    }
}
