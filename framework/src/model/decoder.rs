//! The decoder: its weights, and steps over caches; [`prefill`] reads contexts.

mod plain;
mod prefill;

use indicatif::ProgressBar;
use tch::{Device, Kind, Tensor};

use super::arena::Arena;
use super::attention::{Attention, Linear, Projected};
use super::config::LlamaConfig;
use super::folder::ModelFolder;
use super::placement::Placement;
use super::rope::Rotary;
use super::weights;
use crate::cache::{KvCache, LayerCache};
use crate::error::{During, Error, Result};
use crate::hooks;
use crate::press::{StepHook, StepView};
use crate::view::Geometry;
use pressroom_kernels::attention::{attend_parts, default_scale};
use pressroom_kernels::{gate, linear, norm, rotary};

pub use plain::Sensitivity;

/// Tokens that a prefill takes at a time: bounds queries, attention and the MLP's activations.
pub(super) const SLICE: i64 = 2048;

/// Where and how weights are loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Devices of layers and their caches.
    pub placement: Placement,
    /// Dtype of weights, activations and caches.
    pub kind: Kind,
    /// Counts loaded bytes.
    pub progress: ProgressBar,
}

/// A Llama with its weights. It keeps nothing of the texts it has seen.
#[derive(Debug)]
pub struct Llama {
    config: LlamaConfig,
    geometry: Geometry,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    output: Tensor,
    /// One for each device.
    rotaries: Vec<(Device, Rotary)>,
    kind: Kind,
    placement: Placement,
}

#[derive(Debug)]
struct Layer {
    input_norm: Tensor,
    attention: Attention,
    output_norm: Tensor,
    gate_up: Linear,
    down: Linear,
}

/// New tokens of one sequence, and the cache that they extend.
pub struct Step<'a> {
    /// At least one token id.
    pub tokens: &'a [i64],
    /// The sequence so far.
    pub cache: &'a mut KvCache,
    /// Watches the tokens, and may evict.
    pub hook: Option<&'a mut dyn StepHook>,
}

/// Cosines and sines of positions.
type Tables = (Tensor, Tensor);

impl Llama {
    /// Loads a model folder.
    ///
    /// # Errors
    /// Everything that is wrong with the folder's configuration or weights.
    pub fn load(folder: &ModelFolder, options: &LoadOptions) -> Result<Self> {
        let config = folder.config().clone();
        let (placement, kind) = (options.placement.clone(), options.kind);
        let weights = weights::load(folder.path(), &config, &placement, kind, &options.progress)?;
        let geometry = config.geometry();
        let layers =
            (0..config.num_hidden_layers).map(|index| Layer::load(&weights, index, &config)).collect::<Result<_>>()?;
        let embedding = weights.tensor("model.embed_tokens.weight")?;
        let output = match config.tie_word_embeddings {
            true => embedding.f_to_device(placement.last())?,
            false => weights.tensor("lm_head.weight")?,
        };
        let norm = weights.tensor("model.norm.weight")?;
        let places = placement.places().into_iter();
        let rotaries = places.map(|device| Ok((device, Rotary::new(&config, device)?))).collect::<Result<_>>()?;
        Ok(Self { config, geometry, embedding, layers, norm, output, rotaries, kind, placement })
    }

    /// Shape and variants.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The rotary embedding, on the first layer's device.
    pub fn rotary(&self) -> &Rotary {
        self.rotary_of(0)
    }

    /// The rotary embedding on a layer's device.
    fn rotary_of(&self, layer: usize) -> &Rotary {
        let device = self.placement.layer(layer);
        let own = self.rotaries.iter().position(|(place, _)| *place == device);
        // Every place has one.
        &self.rotaries[own.unwrap_or(0)].1
    }

    /// Attention geometry.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Weight of the output projection of a layer's attention, `[hidden, heads * head_dim]`.
    ///
    /// # Errors
    /// There is no such layer.
    pub fn output_projection(&self, layer: usize) -> Result<&Tensor> {
        let found = self.layers.get(layer).map(|layer| layer.attention.output_weight());
        found.ok_or_else(|| Error::input(format!("the model has {} layers, not {}", self.layers.len(), layer + 1)))
    }

    /// Dtype of weights, activations and caches.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Device of the output: where logits are.
    pub fn device(&self) -> Device {
        self.placement.last()
    }

    /// An empty cache for one sequence.
    ///
    /// # Errors
    /// libtorch cannot allocate.
    pub fn empty_cache(&self) -> Result<KvCache> {
        let layer = |index| LayerCache::empty(self.geometry, self.kind, self.placement.layer(index));
        Ok(KvCache::from_layers((0..self.layers.len()).map(layer).collect::<Result<_>>()?, 0))
    }

    /// Runs new tokens of a batch of sequences through the model, appending to their caches. Sequences are
    /// packed one after another, never padded, so their lengths do not matter to each other.
    ///
    /// Gives the normalised hidden states, `[Σ tokens, hidden]`, for [`Self::logits`].
    ///
    /// # Errors
    /// A sequence has no new token or an unknown one; a cache belongs to another model; an operation fails.
    /// The caches of the batch must then be rolled back or dropped.
    pub fn forward(&self, batch: &mut [Step<'_>]) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let tokens: Vec<i64> = batch.iter().flat_map(|step| step.tokens).copied().collect();
        if batch.iter().any(|step| step.tokens.is_empty()) {
            return Err(Error::input("a sequence without new tokens cannot be run"));
        }
        let mut stream = self.embed(&tokens)?;
        let mut tables = self.step_tables(batch)?;
        let scale = default_scale(self.geometry.head_dim);
        for (index, layer) in self.layers.iter().enumerate() {
            (stream, tables) = self.bring(index, stream, tables)?;
            let hidden_states = self.rms_norm(&stream, &layer.input_norm)?;
            let Projected { queries: unrotated, keys, values } = layer.attention.project(&hidden_states)?;
            let rooms = batch
                .iter_mut()
                .map(|step| step.cache.layer_mut(index)?.make_room(step.tokens.len() as i64))
                .collect::<Result<Vec<_>>>()?;
            let queries = rotary::rotate_and_append([&unrotated, &keys, &values], [&tables.0, &tables.1], &rooms)
                .during("appending to caches", &[&unrotated, &keys])?;
            let mut sequences = Vec::with_capacity(batch.len());
            for step in batch.iter_mut() {
                sequences.push(step.cache.layer_mut(index)?.sequence(step.tokens.len() as i64)?);
            }
            let attended = attend_parts(&queries, &sequences, self.geometry.kv_heads, scale)
                .during("attention over caches", &[&queries])?;
            drop(sequences);
            self.show_step(index, batch, &hidden_states, &unrotated)?;
            stream = self.finish_layer(layer, stream, &attended)?;
        }
        for step in batch {
            step.cache.advance(step.tokens.len() as i64);
        }
        self.rms_norm(&stream, &self.norm)
    }

    /// Shows a layer's new tokens to the hooks of a batch, and lets their decisions shrink the caches.
    fn show_step(&self, index: usize, batch: &mut [Step<'_>], hidden: &Tensor, queries: &Tensor) -> Result<()> {
        let mut start = 0;
        for step in batch {
            let length = step.tokens.len() as i64;
            if let Some(hook) = step.hook.as_deref_mut() {
                let position = step.cache.position();
                let cache = step.cache.layer_mut(index)?;
                let view = StepView {
                    layer: index,
                    geometry: self.geometry,
                    rotary: self.rotary_of(index),
                    position,
                    hidden_states: &hidden.f_narrow(0, start, length)?,
                    queries: &queries.f_narrow(0, start, length)?.f_transpose(0, 1)?,
                    output_projection: self.layers[index].attention.output_weight(),
                    cache,
                };
                if let Some(selection) = hooks::guard(index, &queries.size(), || hook.on_layer(&view))? {
                    *cache = cache.select(&selection)?;
                }
            }
            start += length;
        }
        Ok(())
    }

    /// Logits of hidden states, `[n, hidden]` to float32 `[n, vocab]`.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        linear::linear(hidden, &self.output, None, None, Kind::Float)
            .during("the output layer", &[hidden, &self.output])
    }

    /// Rotary tables of all new tokens of a batch, one sequence after another. Each sequence's are its own:
    /// with `dynamic` scaling they depend on its length.
    fn step_tables(&self, batch: &[Step<'_>]) -> Result<(Tensor, Tensor)> {
        let (mut cosines, mut sines) = (Vec::new(), Vec::new());
        for step in batch {
            let start = step.cache.position();
            let end = start + step.tokens.len() as i64;
            let positions = Tensor::f_arange_start(start, end, (Kind::Int64, self.placement.layer(0)))?;
            let (cos, sin) = self.rotary().tables(&positions, self.kind)?;
            cosines.push(cos);
            sines.push(sin);
        }
        Ok((Tensor::f_cat(&cosines, 0)?, Tensor::f_cat(&sines, 0)?))
    }

    fn embed(&self, tokens: &[i64]) -> Result<Tensor> {
        if tokens.is_empty() {
            return Err(Error::input("the context is empty: there is nothing to run the model on"));
        }
        if let Some(unknown) = tokens.iter().find(|id| !(0..self.config.vocab_size).contains(*id)) {
            return Err(Error::input(format!(
                "token id {unknown} is outside the model's vocabulary of {}: the tokenizer is another model's",
                self.config.vocab_size
            )));
        }
        let ids = Tensor::f_from_slice(tokens)?.f_to_device(self.placement.layer(0))?;
        self.embedding.f_index_select(0, &ids).during("embedding", &[&self.embedding, &ids])
    }

    /// Hidden states and tables of positions on the device of a layer.
    fn bring(&self, layer: usize, stream: Tensor, tables: Tables) -> Result<(Tensor, Tables)> {
        let device = self.placement.layer(layer);
        if stream.device() == device {
            return Ok((stream, tables));
        }
        Ok((stream.f_to_device(device)?, (tables.0.f_to_device(device)?, tables.1.f_to_device(device)?)))
    }

    /// Output projection, residual and MLP. Many tokens are taken in slices, each written over its part of `stream`.
    fn finish_layer(&self, layer: &Layer, stream: Tensor, attended: &Tensor) -> Result<Tensor> {
        let tokens = stream.size2()?.0;
        if tokens <= SLICE {
            return self.finish_slice(layer, &stream, attended);
        }
        for (start, length) in slices(tokens) {
            let mut own = stream.f_narrow(0, start, length)?;
            own.f_copy_(&self.finish_slice(layer, &own, &attended.f_narrow(0, start, length)?)?)?;
        }
        Ok(stream)
    }

    fn finish_slice(&self, layer: &Layer, stream: &Tensor, attended: &Tensor) -> Result<Tensor> {
        let residual = layer.attention.finish(stream, attended)?;
        let gate_up = layer.gate_up.forward(&self.rms_norm(&residual, &layer.output_norm)?)?;
        let gated = gate::silu_mul(&gate_up).during("the gate of the MLP", &[&gate_up])?;
        layer.down.added_to(&residual, &gated)
    }

    fn rms_norm(&self, input: &Tensor, weight: &Tensor) -> Result<Tensor> {
        norm::rms_norm(input, weight, self.config.rms_norm_eps).during("RMSNorm", &[input, weight])
    }
}

/// First token and number of tokens of each slice of `tokens` tokens.
fn slices(tokens: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..tokens).step_by(SLICE as usize).map(move |start| (start, SLICE.min(tokens - start)))
}

impl Layer {
    fn load(weights: &Arena, index: usize, config: &LlamaConfig) -> Result<Self> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        Ok(Self {
            input_norm: weights.tensor(&name("input_layernorm.weight"))?,
            attention: Attention::load(weights, index, config.geometry(), config.attention_bias)?,
            output_norm: weights.tensor(&name("post_attention_layernorm.weight"))?,
            gate_up: Linear::load(weights, &[name("mlp.gate_proj"), name("mlp.up_proj")], config.mlp_bias)?,
            down: Linear::load(weights, &[name("mlp.down_proj")], config.mlp_bias)?,
        })
    }
}
