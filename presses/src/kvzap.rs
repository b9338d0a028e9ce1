//! `kvzap`: hidden states know what will be needed.

use pressroom::error::During;
use pressroom::press::{Budget, ModelFacts, Needs, Params, Range, Scorer, SideData};
use pressroom::{Result, view::LayerView};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::prepared::Prepared;

pressroom::choices! {
    /// What predicts scores from hidden states.
    pub enum Surrogate { Linear = "linear", Mlp = "mlp" }
}

pressroom::press! {
    /// Predicts from a token's hidden state how much its KV pairs will be needed.
    ///
    /// # Idea
    /// KVzip finds out what a context needs by reading it twice. A small surrogate of a layer, linear or with one
    /// hidden layer, learned beforehand to predict the logarithm of those scores from the hidden state of the token
    /// alone. So it serves the prefill and each new token of an answer alike; `dms` is made to wrap it, with a
    /// threshold.
    ///
    /// # Formula
    /// `score = W h + b`, or `W2 gelu(W1 h + b1) + b2`, of the layer
    ///
    /// # Paper
    /// Jégou and Jeblick, "KVzap: Fast, Adaptive, and Faithful KV Cache Pruning", 2026,
    /// <https://arxiv.org/abs/2601.07891>
    "kvzap" Scorer KvZapParams {
        /// Which surrogate is read.
        model_type: Surrogate = Surrogate::Mlp, Range::ANY;
        /// Folder or hub id of the surrogate, as in `nvidia/KVzap-mlp-Llama-3.1-8B-Instruct`: `config.json` and
        /// `model.safetensors`, in the folder or in its folder `linear` or `mlp`. Absent: what
        /// `pressroom calibrate kvzap` made.
        side_data: Option<String> = None, Range::ANY;
    }
}

/// Tokens that are predicted for at once.
const ROWS: i64 = 512;

/// The press: parameters, and weights and biases of each layer in turn.
pub struct KvZap {
    params: KvZapParams,
    layers: Prepared<Vec<Vec<Tensor>>>,
}

/// `config.json` of a surrogate.
#[derive(Deserialize, Serialize)]
pub(crate) struct SurrogateConfig {
    pub(crate) model_type: String,
    pub(crate) input_dim: i64,
    pub(crate) output_dim: i64,
    pub(crate) hidden_dim: Option<i64>,
    pub(crate) n_modules: usize,
}

impl SurrogateConfig {
    /// Names and shapes of the tensors of one layer.
    pub(crate) fn tensors(&self, layer: usize) -> Vec<(String, Vec<i64>)> {
        let linear = |name: String, to: i64, from: i64| {
            [(format!("{name}.weight"), vec![to, from]), (format!("{name}.bias"), vec![to])]
        };
        match self.hidden_dim {
            None => linear(format!("layers.{layer}"), self.output_dim, self.input_dim).into(),
            Some(hidden) => {
                let first = linear(format!("layers.{layer}.0"), hidden, self.input_dim);
                first.into_iter().chain(linear(format!("layers.{layer}.2"), self.output_dim, hidden)).collect()
            }
        }
    }
}

impl KvZap {
    /// A press whose surrogate is read when it is prepared for a model.
    ///
    /// # Errors
    /// Bad parameters.
    pub fn new(params: &Params) -> Result<Self> {
        Ok(Self { params: KvZapParams::from_params(params)?, layers: Prepared::default() })
    }

    fn read(&self, model: &ModelFacts) -> Result<Vec<Vec<Tensor>>> {
        let (kind, linear) = match self.params.model_type {
            Surrogate::Linear => ("linear", true),
            Surrogate::Mlp => ("mlp", false),
        };
        let data = SideData::open("kvzap", self.params.side_data.as_deref(), model)?.within(kind);
        let config: SurrogateConfig = data.json(CONFIG)?;
        let (layers, kv_heads) = (model.geometry.layers, model.geometry.kv_heads);
        let found = (config.n_modules, config.input_dim, config.output_dim, config.hidden_dim.is_none());
        if found != (layers, model.hidden_size, kv_heads, linear) {
            return Err(data.bad(CONFIG, &format!(
                "is of a surrogate with {} layers, {} inputs, {} outputs and hidden_dim {:?}; a {kind} one with {layers} \
                 layers, {} inputs and {kv_heads} outputs is due",
                config.n_modules, config.input_dim, config.output_dim, config.hidden_dim, model.hidden_size,
            )));
        }
        let names: Vec<_> = (0..layers).flat_map(|layer| config.tensors(layer)).collect();
        let mut tensors = data.tensors(WEIGHTS, &names)?.into_iter();
        let each = names.len() / layers.max(1);
        Ok((0..layers).map(|_| tensors.by_ref().take(each).collect()).collect())
    }
}

impl Scorer for KvZap {
    fn identity(&self) -> String {
        self.params.identity()
    }

    fn needs(&self) -> Needs {
        Needs { hidden_states: true, ..Needs::KEYS_AND_VALUES }
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.layers.prepare(model, || self.read(model))
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        let layer = self.layers.tables(view.layer(), view.device())?;
        // Some tokens at a time: what is between the layers stays in the processor's cache.
        let parts = view.hidden_states()?.f_split(ROWS, 1)?.into_iter();
        let parts = parts.map(|hidden| predict(&layer, &hidden.f_to_kind(Kind::Float)?)).collect::<Result<Vec<_>>>()?;
        let scores = Tensor::f_cat(&parts, 1)?.f_transpose(1, 2)?;
        view.at_entries(&view.own_heads(&scores, 1)?)
    }
}

/// Scores `[.., kv_heads]` of hidden states `[.., hidden]` by the weights and biases of one layer's surrogate.
pub(crate) fn predict(layer: &[Tensor], hidden_states: &Tensor) -> Result<Tensor> {
    let mut data = hidden_states.shallow_clone();
    for (index, linear) in layer.chunks_exact(2).enumerate() {
        if index > 0 {
            data = data.f_gelu("none")?;
        }
        data = data.f_linear(&linear[0], Some(&linear[1])).during("a surrogate", &[&data, &linear[0]])?;
    }
    Ok(data)
}

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const WEIGHTS: &str = "model.safetensors";
