//! The KV cache of one sequence. It owns its layout: the model hands over queries, keys and values.
//!
//! A layer's cache has two parts. The *prefix* is what a press left of the context: exactly sized,
//! never written again, shared between forks. The *tail* is what was appended since. Attention runs
//! over each part where it lies and the results merge, so nothing is copied when a token is appended
//! and many questions can be asked of one prefix.

mod dense;
mod file;
mod layer;
mod pruned;
mod quantized;
mod ragged;
mod tail;

pub use layer::LayerCache;
pub use pressroom_kernels::quantized::{Bits, Format, KeySteps};
pub use quantized::Quantization;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::view::Geometry;
use pressroom_kernels::attention::Part;

/// How the KV pairs of a prefix are stored. One sequence, one layer.
pub trait Layout: std::fmt::Debug + Send {
    /// Name in reports and files.
    fn name(&self) -> String;

    /// KV pairs held by each KV head.
    fn lengths(&self) -> Vec<i64>;

    /// The KV pairs as parts of what new tokens see, where they lie; every pair is visible.
    ///
    /// # Errors
    /// The layout contradicts itself.
    fn parts(&self) -> Result<Vec<Part<'_>>>;

    /// Another handle on the same storage.
    fn share(&self) -> Box<dyn Layout>;

    /// The same pairs as small integers.
    ///
    /// # Errors
    /// A group cannot be, or a value is not within float16.
    fn quantized(&self, options: Quantization) -> Result<Box<dyn Layout>>;

    /// How the pairs are quantized, if they are.
    fn quantization(&self) -> Option<Quantization> {
        None
    }

    /// Keys and values of one KV head, each `[length, head_dim]`.
    ///
    /// # Errors
    /// There is no such head.
    fn head(&self, head: usize) -> Result<(Tensor, Tensor)>;

    /// Allocated bytes, indices and offsets included.
    fn bytes(&self) -> usize;

    /// The tensors that make up the layout, by name, for storage in a file.
    ///
    /// # Errors
    /// libtorch cannot allocate.
    fn tensors(&self) -> Result<Vec<(&'static str, Tensor)>>;
}

/// Bytes of a tensor that owns its allocation.
fn tensor_bytes(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}

/// The KV cache of one sequence.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    position: i64,
}

impl KvCache {
    /// A cache that holds nothing yet.
    ///
    /// # Errors
    /// libtorch cannot allocate on `device`.
    pub fn empty(geometry: Geometry, kind: Kind, device: Device) -> Result<Self> {
        let layers = (0..geometry.layers).map(|_| LayerCache::empty(geometry, kind, device)).collect::<Result<_>>()?;
        Ok(Self { layers, position: 0 })
    }

    /// A cache of compressed layers. `position` is that of the next token: the *uncompressed* context length.
    pub fn from_layers(layers: Vec<LayerCache>, position: i64) -> Self {
        Self { layers, position }
    }

    /// Position of the next token.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Counts tokens whose keys and values were appended to every layer.
    pub(crate) fn advance(&mut self, tokens: i64) {
        self.position += tokens;
    }

    /// The cache of each layer.
    pub fn layers(&self) -> &[LayerCache] {
        &self.layers
    }

    /// The cache of one layer, for appending.
    ///
    /// # Errors
    /// There is no such layer.
    pub fn layer_mut(&mut self, layer: usize) -> Result<&mut LayerCache> {
        let layers = self.layers.len();
        self.layers
            .get_mut(layer)
            .ok_or_else(|| Error::input(format!("the cache has {layers} layers, not {}", layer + 1)))
    }

    /// A cache that starts with the same content: prefixes are shared, tails copied. Appending to one
    /// leaves the other as it is.
    ///
    /// # Errors
    /// libtorch cannot allocate.
    pub fn fork(&self) -> Result<Self> {
        let layers = self.layers.iter().map(LayerCache::fork).collect::<Result<_>>()?;
        Ok(Self { layers, position: self.position })
    }

    /// Forgets appended tokens until `position` is that of the next token again.
    ///
    /// # Errors
    /// Tokens of the prefix would have to be forgotten, or ones that have not come yet; the cache stays as it is.
    pub fn rollback(&mut self, position: i64) -> Result<()> {
        let forgotten = self.position.saturating_sub(position);
        // All layers or none: what one layer would refuse, no other has forgotten before.
        for (index, layer) in self.layers.iter().enumerate() {
            let appended = layer.appended_tokens();
            if !(0..=appended).contains(&forgotten) {
                return Err(Error::input(format!(
                    "position {position} cannot be gone back to: layer {index} has {appended} appended tokens, \
                     the next position is {}",
                    self.position
                )));
            }
        }
        for layer in &mut self.layers {
            layer.forget(forgotten)?;
        }
        self.position = position;
        Ok(())
    }

    /// Allocated bytes of all layers, indices and offsets included.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(LayerCache::bytes).sum()
    }

    /// KV pairs held, `[layer][kv head]`.
    pub fn lengths(&self) -> Vec<Vec<i64>> {
        self.layers.iter().map(LayerCache::lengths).collect()
    }
}
