//! Quantized layout: small integers, with the last pairs of each head in full precision.

use tch::{Kind, Tensor};

use super::Layout;
use super::ragged::Ragged;
use crate::error::{During, Error, Result};
use pressroom_kernels::attention::Part;
use pressroom_kernels::quantized::{Bits, Quantized as Store};

/// How KV pairs are quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantization {
    /// Bits of an element.
    pub bits: Bits,
    /// Tokens whose keys share the step and zero of a channel.
    pub group: i64,
    /// Fewest tokens at the end of each KV head that keep full precision.
    pub residual: i64,
}

/// Whole groups of each KV head quantized, the rest in full precision. Keys of a group share a step and a zero per
/// channel; each value has its own (KIVI: Liu et al., 2024, arXiv:2402.02750).
#[derive(Debug)]
pub(super) struct Quantized {
    store: Store,
    rest: Ragged,
}

impl Quantized {
    pub(super) const NAME: &str = "quantized";

    /// Quantizes what another layout holds.
    pub(super) fn of(layout: &dyn Layout, options: Quantization) -> Result<Self> {
        let Quantization { bits, group, residual } = options;
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
        let store = Store::new(&keys, &values, groups, bits, group).during("quantizing a cache", &[&keys, &values])?;
        let rest = Ragged::new(Tensor::f_cat(&rest[0], 0)?, Tensor::f_cat(&rest[1], 0)?, rows)?;
        Ok(Self { store, rest })
    }

    /// From the tensors that [`Layout::tensors`] gives.
    pub(super) fn from_tensors(take: &dyn Fn(&str) -> Result<Tensor>) -> Result<Self> {
        let numbers = |tensor: Tensor| -> Result<Vec<i64>> { Ok(Vec::try_from(tensor)?) };
        let format = numbers(take("format")?)?;
        let bits = match format.first() {
            Some(2) => Bits::Two,
            Some(4) => Bits::Four,
            Some(8) => Bits::Eight,
            _ => return Err(Error::input(format!("a quantized cache of format {format:?}"))),
        };
        let group = format.get(1).copied().unwrap_or(0);
        let groups = numbers(take("groups")?)?;
        let keys = [take("key_codes")?, take("key_scales")?];
        let values = [take("value_codes")?, take("value_scales")?];
        let store = Store::restore(bits, group, groups, keys, values)?;
        let rest = Ragged::new(take("keys")?, take("values")?, numbers(take("indptr")?)?)?;
        if rest.lengths().len() + 1 != store.indptr().len() {
            return Err(Error::input("a quantized cache whose parts have different numbers of heads"));
        }
        Ok(Self { store, rest })
    }
}

impl Layout for Quantized {
    fn name(&self) -> String {
        Self::NAME.into()
    }

    fn lengths(&self) -> Vec<i64> {
        let packed = self.store.row_indptr();
        packed.windows(2).zip(self.rest.lengths()).map(|(pair, rest)| pair[1] - pair[0] + rest).collect()
    }

    fn parts(&self, query: &Tensor, scale: f64) -> Result<Vec<Part<'_>>> {
        let mut parts = vec![Part::Quantized(&self.store)];
        parts.append(&mut self.rest.parts(query, scale)?);
        Ok(parts)
    }

    fn share(&self) -> Box<dyn Layout> {
        Box::new(Self { store: self.store.share(), rest: self.rest.handle() })
    }

    fn head(&self, head: usize) -> Result<(Tensor, Tensor)> {
        let (rest_keys, rest_values) = self.rest.head(head)?;
        let rows = self.store.row_indptr();
        let [keys, values] = self.store.unpacked()?;
        let whole = |packed: &Tensor, rest: &Tensor| -> Result<Tensor> {
            let own = packed.f_narrow(0, rows[head], rows[head + 1] - rows[head])?.f_to_kind(rest.kind())?;
            Ok(Tensor::f_cat(&[&own, rest], 0)?)
        };
        Ok((whole(&keys, &rest_keys)?, whole(&values, &rest_values)?))
    }

    fn bytes(&self) -> usize {
        self.store.bytes() + self.rest.bytes()
    }

    fn tensors(&self) -> Result<Vec<(&'static str, Tensor)>> {
        let format = Tensor::f_from_slice(&[i64::from(self.store.bits().count()), self.store.group()])?;
        let mut tensors = vec![("format", format.f_to_kind(Kind::Int64)?)];
        tensors.push(("groups", Tensor::f_from_slice(self.store.indptr())?));
        tensors.extend(self.store.tensors().map(|(name, tensor)| (name, tensor.shallow_clone())));
        tensors.append(&mut self.rest.tensors()?);
        Ok(tensors)
    }
}
