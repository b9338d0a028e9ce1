//! `fastkvzip`: gates that were taught what `kvzip` keeps.

use std::path::PathBuf;

use pressroom::error::During;
use pressroom::press::{Budget, Context, ContextPress, ModelFacts, Needs, Params, Range, Selection};
use pressroom::torch_archive::{self, Stored};
use pressroom::view::{Geometry, LayerView};
use pressroom::{Error, Result};
use tch::{Kind, Tensor};

use crate::prepared::Prepared;
use crate::replay::keep_sinks;
use crate::sharing::{selections, share};

/// Where gates are published.
const PUBLISHED: &str = "Jang-Hyun/Fast-KVzip";
/// Contexts from this length on are meant to be prefilled in pieces, with a window of fixed size.
const LONG: i64 = 32_000;
/// Tokens gated at once.
const SLICE: i64 = 2048;
/// Of the gates' RMSNorm.
const EPSILON: f64 = 1e-6;

pressroom::press! {
    /// Keeps what trained gates expect the repetition of the context to read.
    ///
    /// # Idea
    /// A small gate for each KV head predicts from a token's hidden state the score that `kvzip` would give it, so that
    /// nothing is replayed: a low-rank key is weighed against base keys, for each query head of the group. All heads of
    /// all layers share one budget. Gates are trained for one model; the published ones are fetched unless `side_data`
    /// names others.
    ///
    /// # Formula
    /// `score = mean over the query group of 1 / (1 + sum over base keys s of exp((s q - k q) / sqrt(d) - b))`, with
    /// `q = RMSNorm(W_q h + c)`, `k = RMSNorm(W_k h)`; infinite for the first `n_sink` tokens and the window at the end
    ///
    /// # Paper
    /// Kim, Han and Yun, "Fast KVzip: Efficient and Accurate LLM Inference with Gated KV Eviction", 2026,
    /// <https://arxiv.org/abs/2601.17668>
    "fastkvzip" Context FastKvZipParams {
        /// Whether every layer has the same budget, shared by its heads alone.
        layerwise: bool = false, Range::ANY;
        /// Tokens at the start that are always kept.
        n_sink: usize = 4, Range::closed(0.0, 1e9);
        /// Tokens at the end that are always kept of a context of 32,000 tokens or more.
        window_size: usize = 4096, Range::closed(1.0, 1e9);
        /// Fraction of a shorter context that is always kept at its end; at least one token.
        window_ratio: f64 = 0.02, Range::closed(0.0, 1.0);
        /// Folder or hub repository that holds `q<group>_dim16_sink16.pt` (a `torch.save` of `{"module": [state of
        /// each layer's gate]}`), or holds it in a folder named like the model.
        side_data: Option<String> = None, Range::ANY;
    }
}

/// The press: parameters and the gates of the model.
pub struct FastKvZip {
    params: FastKvZipParams,
    gates: Prepared<Vec<Gate>>,
}

impl FastKvZip {
    /// A press without gates yet.
    ///
    /// # Errors
    /// Bad parameters.
    pub fn new(params: &Params) -> Result<Self> {
        Ok(Self { params: FastKvZipParams::from_params(params)?, gates: Prepared::default() })
    }

    fn file(&self, model: &ModelFacts) -> Result<PathBuf> {
        let name = format!("q{}_dim16_sink16.pt", model.geometry.group());
        let of_model = format!("{}/{name}", model.name.rsplit('/').next().unwrap_or_default().to_lowercase());
        match &self.params.side_data {
            None => model.side_data(PUBLISHED, &of_model),
            Some(place) => model.side_data(place, &name).or_else(|_| model.side_data(place, &of_model)),
        }
    }

    fn read(&self, model: &ModelFacts) -> Result<Vec<Gate>> {
        let path = self.file(model)?;
        let archive = torch_archive::read(&path)?;
        let layers = archive.get("module").and_then(Stored::list).unwrap_or_default();
        if layers.len() != model.geometry.layers {
            let (found, due) = (layers.len(), model.geometry.layers);
            return Err(Error::file(path, format!("holds gates of {found} layers, the model has {due}")));
        }
        let gate = |(layer, state): (usize, &Stored)| {
            Gate::new(state, model).map_err(|problem| Error::file(&path, format!("layer {layer}: {problem}")))
        };
        layers.iter().enumerate().map(gate).collect()
    }

    /// Tokens at the end that are always kept.
    fn window(&self, tokens: i64) -> i64 {
        let FastKvZipParams { window_size, window_ratio, .. } = self.params;
        if tokens < LONG { ((tokens as f64 * window_ratio) as i64).max(1) } else { tokens.min(window_size as i64) }
    }
}

impl ContextPress for FastKvZip {
    fn identity(&self) -> String {
        self.params.identity()
    }

    fn needs(&self) -> Needs {
        Needs { hidden_states: true, ..Needs::KEYS_AND_VALUES }
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.gates.prepare(model, || self.read(model))
    }

    fn observe(&self, view: &LayerView<'_>) -> Result<Option<Tensor>> {
        let hidden = view.hidden_states()?.f_squeeze_dim(0)?;
        self.gates.with(|gates| {
            let gate = gates.get(view.layer()).ok_or_else(|| Error::input("there is no gate of this layer"))?;
            gate.score(&hidden, view.geometry()).map(Some)
        })
    }

    fn score(&self, context: &mut Context<'_>) -> Result<Vec<Tensor>> {
        let missing = || Error::input("a layer was not observed");
        let gated = context.observed.iter().map(|scores| Ok(scores.as_ref().ok_or_else(missing)?.copy()));
        let scores = gated.collect::<Result<Vec<_>>>()?;
        keep_sinks(&scores, self.params.n_sink)?;
        for layer in &scores {
            let tokens = layer.size2()?.1;
            let window = self.window(tokens);
            let _ = layer.f_narrow(1, tokens - window, window)?.f_fill_(f64::INFINITY)?;
        }
        Ok(scores)
    }

    fn select(&self, scores: &[Tensor], budgets: &[Budget]) -> Result<Vec<Selection>> {
        selections(&share(scores, budgets, self.params.layerwise, Budget::left_together)?)
    }
}

/// The gate of one layer; `d` is the width of its keys. All float32.
struct Gate {
    /// `[kv_heads * group * d, hidden]` and `[kv_heads * group * d]`
    query: (Tensor, Tensor),
    /// `[kv_heads * d, hidden]`
    key: Tensor,
    /// `[d]` each
    norms: (Tensor, Tensor),
    /// `[kv_heads, 1, base keys, d]`
    base: Tensor,
    /// `[kv_heads, 1, group]`
    bias: Tensor,
}

impl Gate {
    fn new(state: &Stored, model: &ModelFacts) -> Result<Self, String> {
        let Geometry { kv_heads, .. } = model.geometry;
        let (group, hidden) = (model.geometry.group(), model.hidden_size);
        let width = state.tensor("q_norm.weight").map(Tensor::size).and_then(|size| size.first().copied()).unwrap_or(0);
        let take = |name: &str, due: &[i64]| {
            let found = state.tensor(name).ok_or_else(|| format!("the gate has no {name}"))?;
            let size = found.size();
            if size.len() != due.len() || size.iter().zip(due).any(|(size, due)| *due != -1 && size != due) {
                return Err(format!("{name} has shape {size:?}, {due:?} is due for this model"));
            }
            found.f_to_kind(Kind::Float).map_err(|error| error.to_string())
        };
        Ok(Self {
            query: (
                take("q_proj.weight", &[kv_heads * group * width, hidden])?,
                take("q_proj.bias", &[kv_heads * group * width])?,
            ),
            key: take("k_proj.weight", &[kv_heads * width, hidden])?,
            norms: (take("q_norm.weight", &[width])?, take("k_norm.weight", &[width])?),
            base: take("k_base", &[kv_heads, 1, -1, width])?,
            bias: take("b", &[kv_heads, 1, group])?,
        })
    }

    /// Scores of tokens with these hidden states, `[n, hidden]`: float32 `[kv_heads, n]`.
    fn score(&self, hidden: &Tensor, geometry: Geometry) -> Result<Tensor> {
        let Geometry { kv_heads, .. } = geometry;
        let tokens = hidden.size2()?.0;
        let here = |data: &Tensor| data.f_to_device(hidden.device());
        let width = self.norms.0.size()[0];
        let project = |input: &Tensor, weight: &Tensor, bias: Option<&Tensor>, norm: &Tensor| {
            let projected = input.f_linear(&here(weight)?, bias.map(here).transpose()?.as_ref())?;
            let rows = projected.f_view([input.size()[0], kv_heads, -1, width])?;
            // [kv_heads, n, projections of a head, d]
            rows.f_rms_norm([width], Some(&here(norm)?), EPSILON)?.f_transpose(0, 1)
        };
        let gated = |start: i64| {
            let input = hidden.f_narrow(0, start, SLICE.min(tokens - start))?.f_to_kind(Kind::Float)?;
            let queries = project(&input, &self.query.0, Some(&self.query.1), &self.norms.0)?.f_transpose(2, 3)?;
            let keys = project(&input, &self.key, None, &self.norms.1)?;
            let scale = 1.0 / (width as f64).sqrt();
            let logits = keys.f_matmul(&queries)?.f_mul_scalar(scale)?.f_add(&here(&self.bias)?.f_unsqueeze(2)?)?;
            let base = here(&self.base)?.f_matmul(&queries)?.f_mul_scalar(scale)?.f_logsumexp([2], true)?;
            logits.f_sub(&base)?.f_sigmoid()?.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)
        };
        let slices = (0..tokens).step_by(SLICE as usize).map(gated).collect::<Result<Vec<_>, _>>();
        Ok(Tensor::f_cat(&slices.during("the gates", &[hidden, &self.query.0])?, 1)?)
    }
}
