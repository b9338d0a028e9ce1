//! Ragged layout: a number of KV pairs of its own in every head, stored without gaps.

use tch::Tensor;

use super::quantized::Quantized;
use super::{Layout, Quantization, tensor_bytes};
use crate::error::{Error, Result};
use pressroom_kernels::attention::{Extent, Mask, Part};

/// Keys and values, each `[Σ lengths, head_dim]`, head after head; head `h` owns rows `indptr[h]..indptr[h + 1]`.
#[derive(Debug)]
pub(super) struct Ragged {
    keys: Tensor,
    values: Tensor,
    indptr: Vec<i64>,
}

impl Ragged {
    pub(super) const NAME: &str = "ragged";

    /// # Errors
    /// The offsets do not cover the rows in ascending order.
    pub(super) fn new(keys: Tensor, values: Tensor, indptr: Vec<i64>) -> Result<Self> {
        let rows = keys.size2()?.0;
        let ascending = indptr.windows(2).all(|pair| pair[0] <= pair[1]);
        if indptr.len() < 2
            || indptr[0] != 0
            || indptr[indptr.len() - 1] != rows
            || !ascending
            || values.size2()?.0 != rows
        {
            return Err(Error::input(format!("ragged offsets {indptr:?} do not divide {rows} rows")));
        }
        Ok(Self { keys: keys.f_contiguous()?, values: values.f_contiguous()?, indptr })
    }

    /// Another handle on the same storage.
    pub(super) fn handle(&self) -> Self {
        let indptr = self.indptr.clone();
        Self { keys: self.keys.shallow_clone(), values: self.values.shallow_clone(), indptr }
    }
}

impl Layout for Ragged {
    fn name(&self) -> String {
        Self::NAME.into()
    }

    fn lengths(&self) -> Vec<i64> {
        self.indptr.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    fn parts(&self) -> Result<Vec<Part<'_>>> {
        let extent = Extent::Ragged(&self.indptr);
        Ok(vec![Part::Rows { keys: &self.keys, values: &self.values, extent, mask: Mask::None }])
    }

    fn share(&self) -> Box<dyn Layout> {
        Box::new(self.handle())
    }

    fn quantized(&self, options: Quantization) -> Result<Box<dyn Layout>> {
        Ok(Box::new(Quantized::of(self, options)?))
    }

    fn head(&self, head: usize) -> Result<(Tensor, Tensor)> {
        let (start, length) = match self.indptr.get(head..head + 2) {
            Some(bounds) => (bounds[0], bounds[1] - bounds[0]),
            None => {
                return Err(Error::input(format!(
                    "the cache has {} KV heads, not {}",
                    self.indptr.len() - 1,
                    head + 1
                )));
            }
        };
        Ok((self.keys.f_narrow(0, start, length)?, self.values.f_narrow(0, start, length)?))
    }

    fn bytes(&self) -> usize {
        tensor_bytes(&self.keys) + tensor_bytes(&self.values) + self.indptr.len() * size_of::<i64>()
    }

    fn tensors(&self) -> Result<Vec<(&'static str, Tensor)>> {
        let indptr = Tensor::f_from_slice(&self.indptr)?;
        Ok(vec![("keys", self.keys.shallow_clone()), ("values", self.values.shallow_clone()), ("indptr", indptr)])
    }
}
