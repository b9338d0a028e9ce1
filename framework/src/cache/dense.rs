//! Dense layout: the same number of KV pairs in every head.

use tch::Tensor;

use super::quantized::Quantized;
use super::{Layout, Quantization, tensor_bytes};
use crate::error::Result;
use pressroom_kernels::attention::{Extent, Mask, Part};

/// Keys and values, each `[kv_heads, tokens, head_dim]`.
#[derive(Debug)]
pub(super) struct Dense {
    keys: Tensor,
    values: Tensor,
}

impl Dense {
    pub(super) const NAME: &str = "dense";

    pub(super) fn new(keys: Tensor, values: Tensor) -> Result<Self> {
        Ok(Self { keys: keys.f_contiguous()?, values: values.f_contiguous()? })
    }
}

impl Layout for Dense {
    fn name(&self) -> String {
        Self::NAME.into()
    }

    fn lengths(&self) -> Vec<i64> {
        let size = self.keys.size();
        vec![size[1]; size[0] as usize]
    }

    fn parts(&self) -> Result<Vec<Part<'_>>> {
        let length = self.keys.size3()?.1;
        let extent = Extent::Uniform { capacity: length, length };
        Ok(vec![Part::Rows { keys: &self.keys, values: &self.values, extent, mask: Mask::None }])
    }

    fn share(&self) -> Box<dyn Layout> {
        Box::new(Self { keys: self.keys.shallow_clone(), values: self.values.shallow_clone() })
    }

    fn quantized(&self, options: Quantization) -> Result<Box<dyn Layout>> {
        Ok(Box::new(Quantized::of(self, options)?))
    }

    fn head(&self, head: usize) -> Result<(Tensor, Tensor)> {
        Ok((self.keys.f_select(0, head as i64)?, self.values.f_select(0, head as i64)?))
    }

    fn bytes(&self) -> usize {
        tensor_bytes(&self.keys) + tensor_bytes(&self.values)
    }

    fn tensors(&self) -> Result<Vec<(&'static str, Tensor)>> {
        Ok(vec![("keys", self.keys.shallow_clone()), ("values", self.values.shallow_clone())])
    }
}
