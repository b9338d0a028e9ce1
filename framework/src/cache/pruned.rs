//! Channel-pruned layout: of every key only some channels are stored.

use tch::{Kind, Tensor};

use super::{Layout, Quantization, tensor_bytes};
use crate::error::{During, Error, Result};
use pressroom_kernels::attention::Part;

/// A layout whose keys have fewer channels than the model's. Queries are reduced to the same channels, so the removed
/// ones count as zero without being stored.
#[derive(Debug)]
pub(super) struct Pruned {
    /// Keys of the kept channels, and whole values.
    stored: Box<dyn Layout>,
    /// Kept channels, ascending, int64 `[kv_heads, channels]`.
    channels: Tensor,
    head_dim: i64,
}

impl Pruned {
    /// What the name of the stored layout is prefixed with.
    pub(super) const PREFIX: &str = "pruned-";

    /// # Errors
    /// The channels are not those of keys of `head_dim` channels.
    pub(super) fn new(stored: Box<dyn Layout>, channels: Tensor, head_dim: i64) -> Result<Self> {
        let (heads, _) = channels.size2()?;
        let valid = channels.f_ge(0)?.f_logical_and(&channels.f_lt(head_dim)?)?.f_all()?.f_int64_value(&[])? == 1;
        if heads != stored.lengths().len() as i64 || !valid || channels.kind() != Kind::Int64 {
            return Err(Error::input(format!(
                "key channels {:?} are not those of {} KV heads of {head_dim} channels",
                channels.size(),
                stored.lengths().len()
            )));
        }
        Ok(Self { stored, channels: channels.f_contiguous()?, head_dim })
    }

    /// The same channels of what is stored otherwise.
    fn over(&self, stored: Box<dyn Layout>) -> Self {
        Self { stored, channels: self.channels.shallow_clone(), head_dim: self.head_dim }
    }
}

impl Layout for Pruned {
    fn name(&self) -> String {
        format!("{}{}", Self::PREFIX, self.stored.name())
    }

    fn lengths(&self) -> Vec<i64> {
        self.stored.lengths()
    }

    fn parts(&self) -> Result<Vec<Part<'_>>> {
        let mut parts = self.stored.parts()?;
        for part in &mut parts {
            *part = match *part {
                Part::Rows { keys, values, extent, .. } => {
                    Part::Pruned { keys, values, extent, channels: &self.channels }
                }
                Part::Quantized { store, .. } => Part::Quantized { store, channels: Some(&self.channels) },
                _ => return Err(Error::input("only plain rows and codes can have fewer key channels")),
            };
        }
        Ok(parts)
    }

    fn share(&self) -> Box<dyn Layout> {
        Box::new(self.over(self.stored.share()))
    }

    fn quantized(&self, options: Quantization) -> Result<Box<dyn Layout>> {
        Ok(Box::new(self.over(self.stored.quantized(options)?)))
    }

    fn quantization(&self) -> Option<Quantization> {
        self.stored.quantization()
    }

    fn head(&self, head: usize) -> Result<(Tensor, Tensor)> {
        let (keys, values) = self.stored.head(head)?;
        let length = keys.size2()?.0;
        let channels = self.channels.f_select(0, head as i64)?.f_unsqueeze(0)?.f_expand_as(&keys)?;
        let whole = Tensor::f_zeros([length, self.head_dim], (keys.kind(), keys.device()))?;
        Ok((whole.f_scatter(1, &channels, &keys)?, values))
    }

    fn bytes(&self) -> usize {
        self.stored.bytes() + tensor_bytes(&self.channels)
    }

    fn tensors(&self) -> Result<Vec<(&'static str, Tensor)>> {
        let mut tensors = self.stored.tensors()?;
        tensors.push(("channels", self.channels.shallow_clone()));
        Ok(tensors)
    }
}

/// The `channels` (`[kv_heads, channels]`) of keys `[kv_heads, tokens, head_dim]`, or with offsets
/// `[Σ lengths, head_dim]`.
pub(super) fn prune(keys: &Tensor, channels: &Tensor, indptr: Option<&[i64]>) -> Result<Tensor> {
    let indices = match indptr {
        None => channels.f_unsqueeze(1)?.f_expand([-1, keys.size3()?.1, -1], false)?,
        Some(indptr) => {
            let counts: Vec<i64> = indptr.windows(2).map(|part| part[1] - part[0]).collect();
            let counts = Tensor::f_from_slice(&counts)?.f_to_device(channels.device())?;
            channels.f_repeat_interleave_self_tensor(&counts, 0, None)?
        }
    };
    keys.f_gather(-1, &indices, false).during("removing key channels", &[keys, channels])
}
