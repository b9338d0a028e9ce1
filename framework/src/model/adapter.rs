//! LoRA adapters (Hu et al., 2021, arXiv:2106.09685) in the format of Hugging Face's PEFT.

use std::collections::HashMap;
use std::path::Path;

use safetensors::SafeTensors;
use serde::Deserialize;
use tch::{Device, Tensor};

use crate::error::{During, Error, Result};
use crate::tensors;

/// What is added to some linear maps of a model: to `W x` the low-rank `scale * B A x`.
#[derive(Debug)]
pub struct LoraAdapter {
    scale: f64,
    /// `A`, `[rank, inputs]`, and `B`, `[outputs, rank]`, by layer and name, as in `self_attn.q_proj`.
    maps: HashMap<(usize, String), (Tensor, Tensor)>,
}

#[derive(Deserialize)]
struct Config {
    peft_type: String,
    r: i64,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    rank_pattern: HashMap<String, i64>,
    #[serde(default)]
    alpha_pattern: HashMap<String, f64>,
}

impl LoraAdapter {
    /// Reads `adapter_config.json` and `adapter_model.safetensors`.
    ///
    /// # Errors
    /// A file is missing or damaged, or the adapter changes more than the linear maps of decoder layers.
    pub fn read(config: &Path, weights: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(config).map_err(Error::io(config))?;
        let parsed: Config = serde_json::from_str(&text).map_err(|error| Error::file(config, error.to_string()))?;
        let plain = parsed.rank_pattern.is_empty() && parsed.alpha_pattern.is_empty() && !parsed.use_dora;
        if parsed.peft_type != "LORA" || !plain || parsed.r < 1 {
            return Err(Error::file(config, "is no plain LoRA adapter of one rank, and only such are read"));
        }
        let rank = parsed.r as f64;
        let scale = parsed.lora_alpha / if parsed.use_rslora { rank.sqrt() } else { rank };
        Ok(Self { scale, maps: read_maps(weights, parsed.r)? })
    }

    /// What is added to the output of the map called `name` in `layer` for `input`, `[n, inputs]`; `None` where the
    /// adapter leaves it as it is.
    ///
    /// # Errors
    /// The adapter is another model's.
    pub fn added(&self, layer: usize, name: &str, input: &Tensor) -> Result<Option<Tensor>> {
        let Some((down, up)) = self.maps.get(&(layer, name.to_owned())) else { return Ok(None) };
        let like = |weight: &Tensor| weight.f_to_device(input.device())?.f_to_kind(input.kind());
        let (down, up) = (like(down)?, like(up)?);
        let added = input
            .f_linear::<&Tensor>(&down, None)
            .and_then(|low| low.f_linear::<&Tensor>(&up, None)?.f_mul_scalar(self.scale))
            .during("a LoRA adapter", &[input, &down, &up])?;
        Ok(Some(added))
    }
}

/// The pairs of a weight file, all of rank `rank`.
fn read_maps(path: &Path, rank: i64) -> Result<HashMap<(usize, String), (Tensor, Tensor)>> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| Error::file(path, error.to_string()))?;
    let take = |name: &str| -> Result<Tensor> {
        let view = file.tensor(name).map_err(|_| Error::file(path, format!("holds no {name}")))?;
        let kind = tensors::kind_of(view.dtype())
            .ok_or_else(|| Error::file(path, format!("{name} has dtype {:?}", view.dtype())))?;
        tensors::from_bytes(view.data(), view.shape(), kind, Device::Cpu)
    };
    let mut maps = HashMap::new();
    for name in file.names() {
        let Some((place, half)) = name.rsplit_once(".lora_") else {
            return Err(Error::file(path, format!("{name} is no part of a LoRA pair")));
        };
        let at = place.rsplit_once("layers.").and_then(|(_, place)| place.split_once('.'));
        let Some((layer, map)) = at.and_then(|(layer, map)| Some((layer.parse().ok()?, map.to_owned()))) else {
            return Err(Error::file(path, format!("{name} is in no decoder layer")));
        };
        if half == "A.weight" {
            let (down, up) = (take(name)?, take(&format!("{place}.lora_B.weight"))?);
            if down.size2()?.0 != rank || up.size2()?.1 != rank {
                return Err(Error::file(path, format!("{name} is not of rank {rank}")));
            }
            maps.insert((layer, map), (down, up));
        }
    }
    Ok(maps)
}
