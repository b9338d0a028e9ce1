//! KV caches as safetensors files: what is in memory, nothing more.

use std::collections::HashMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use super::dense::Dense;
use super::layer::layout_from;
use super::quantized::Quantized;
use super::ragged::Ragged;
use super::{KvCache, LayerCache};
use crate::error::{Error, Result};
use crate::tensors;

/// Names that `layout` may have in a file.
pub(super) const KNOWN_LAYOUTS: [&str; 6] =
    [Dense::NAME, Ragged::NAME, Quantized::NAME, "pruned-dense", "pruned-ragged", "pruned-quantized"];

/// Marks the file's kind and version in its metadata.
const FORMAT: &str = "pressroom-kv-cache-1";

impl KvCache {
    /// Writes the cache to a safetensors file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut metadata = HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("position".to_owned(), self.position().to_string()),
            ("layers".to_owned(), self.layers().len().to_string()),
        ]);
        let mut stored = Vec::new();
        for (index, layer) in self.layers().iter().enumerate() {
            metadata.insert(format!("layers.{index}.layout"), layer.prefix().name());
            let (keys, values) = layer.appended()?;
            let prefix = layer.prefix().tensors()?.into_iter().map(|(name, tensor)| (format!("prefix.{name}"), tensor));
            let tail = [("tail.keys".to_owned(), keys), ("tail.values".to_owned(), values)];
            stored.extend(prefix.chain(tail).map(|(name, tensor)| (format!("layers.{index}.{name}"), tensor)));
        }
        tensors::save(path, &stored, Some(metadata))
    }

    /// Reads a cache that [`Self::save`] wrote, onto `device`.
    ///
    /// # Errors
    /// The file is missing, damaged or no KV cache.
    pub fn load(path: &Path, device: Device) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let bad = |problem: String| Error::file(path, problem);
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| bad(error.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| bad(error.to_string()))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        if metadata.get("format").map(String::as_str) != Some(FORMAT) {
            return Err(bad("is no KV cache written by Pressroom".into()));
        }
        let number = |name: &str| -> Result<i64> {
            let text = metadata.get(name).ok_or_else(|| bad(format!("has no `{name}` in its metadata")))?;
            text.parse().map_err(|_| bad(format!("`{name}` is {text:?}, not a number")))
        };
        let take = |name: &str| -> Result<Tensor> {
            let view = file.tensor(name).map_err(|error| bad(error.to_string()))?;
            let kind = match view.dtype() {
                Dtype::I64 => Kind::Int64,
                Dtype::U8 => Kind::Uint8,
                other => tensors::kind_of(other).ok_or_else(|| bad(format!("{name} has dtype {other:?}")))?,
            };
            tensors::from_bytes(view.data(), view.shape(), kind, device)
        };
        let count = number("layers")?;
        if !(0..=4096).contains(&count) {
            return Err(bad(format!("claims {count} layers")));
        }
        let mut layers = Vec::new();
        for index in 0..count {
            let key = format!("layers.{index}.layout");
            let layout = metadata.get(&key).ok_or_else(|| bad(format!("has no `{key}` in its metadata")))?;
            let prefix = layout_from(layout, &|name| take(&format!("layers.{index}.prefix.{name}")))?;
            let tail = |name: &str| take(&format!("layers.{index}.tail.{name}"));
            layers.push(LayerCache::from_parts(prefix, &tail("keys")?, &tail("values")?)?);
        }
        Ok(Self::from_layers(layers, number("position")?))
    }
}
