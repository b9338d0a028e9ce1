//! Surrogates for `kvzap`: learned to predict the scores of KVzip+ from hidden states.

use std::path::Path;

use pressroom::press::{ModelFacts, Needs, Span};
use pressroom::view::LayerView;
use pressroom::{Error, Result, error::During, random, tensors};
use pressroom_kernels::received::Summary;
use tch::{Device, Kind, Tensor};

use super::{Calibration, Text, look_at, mlp, nothing_learned};
use crate::kvzap::{CONFIG, SurrogateConfig, WEIGHTS};
use crate::replay::{self, REPEAT};

/// Hidden units of the `mlp` surrogate.
const HIDDEN: i64 = 512;
/// Most tokens of a text that are learned from, and of all texts.
const TOKENS_PER_TEXT: i64 = 500;
const TOKENS: i64 = 16_384;
/// Weight of the squared coefficients in the least squares of the `linear` surrogate.
const RIDGE: f64 = 1.0;

/// Collects hidden states and what is to be predicted from them.
///
/// The text is read and then repeated, as KVzip has it. The score of a KV pair is the most that a token of the
/// repetition pays to it, `max over queries and the query group of a ||W_O v|| / ||h||`; the surrogates predict its
/// logarithm.
pub struct KvZapCalibration {
    model: ModelFacts,
    texts: u64,
    /// By layer: hidden states `[n, hidden]` and logarithms of scores `[n, kv_heads]` of each text.
    samples: Vec<Vec<[Tensor; 2]>>,
    tokens: i64,
}

impl KvZapCalibration {
    /// Nothing learned yet.
    pub fn new(model: &ModelFacts) -> Self {
        let samples = (0..model.geometry.layers).map(|_| Vec::new()).collect();
        Self { model: model.clone(), texts: 0, samples, tokens: 0 }
    }

    /// All samples of a layer.
    fn of_layer(&self, layer: usize) -> Result<[Tensor; 2]> {
        let part = |part: usize| self.samples[layer].iter().map(|sample| &sample[part]).collect::<Vec<_>>();
        if self.samples[layer].is_empty() {
            return Err(nothing_learned());
        }
        Ok([Tensor::f_cat(&part(0), 0)?, Tensor::f_cat(&part(1), 0)?])
    }

    fn save(&self, folder: &Path, kind: &str, hidden_dim: Option<i64>, learn: Learn<'_>) -> Result<Vec<String>> {
        let inside = folder.join(kind);
        std::fs::create_dir_all(&inside).map_err(Error::io(&inside))?;
        let config = SurrogateConfig {
            model_type: "kvzap".into(),
            input_dim: self.model.hidden_size,
            output_dim: self.model.geometry.kv_heads,
            hidden_dim,
            n_modules: self.model.geometry.layers,
        };
        let mut named = Vec::new();
        for layer in 0..config.n_modules {
            let [inputs, targets] = self.of_layer(layer)?;
            let names = config.tensors(layer).into_iter().map(|(name, _)| name);
            named.extend(names.zip(learn(&inputs, &targets, layer as u64)?));
        }
        tensors::save(&inside.join(WEIGHTS), &named, None)?;
        let text = serde_json::to_value(&config).map_err(|error| Error::file(&inside, error.to_string()))?;
        let files = [WEIGHTS.to_owned(), super::write_json(&inside, CONFIG, &text)?];
        Ok(files.iter().map(|file| format!("{kind}/{file}")).collect())
    }
}

/// Learns targets from inputs with a seed.
type Learn<'a> = &'a dyn Fn(&Tensor, &Tensor, u64) -> Result<Vec<Tensor>>;

impl Calibration for KvZapCalibration {
    fn learn(&mut self, text: Text<'_>) -> Result<()> {
        if self.tokens >= TOKENS {
            return Ok(());
        }
        let read = text.tokens.len() as i64;
        let all = [text.prefix, text.tokens, &(text.encode)(REPEAT)?, text.suffix, text.tokens].concat();
        let start = text.prefix.len() as i64;
        let needs = Needs {
            hidden_states: true,
            queries: Span::Last(text.tokens.len()),
            output_projection: true,
            ..Needs::KEYS_AND_VALUES
        };
        let count = read.min(TOKENS_PER_TEXT);
        let chosen = random::uniform(self.texts, &[read], Device::Cpu)?.f_argsort(0, false)?.f_narrow(0, 0, count)?;
        look_at(text.model, &all, needs, &mut |view| {
            let chosen = chosen.f_to_device(view.device())?;
            let hidden = view.hidden_states()?.f_select(0, 0)?.f_narrow(0, start, read)?;
            let scores = plus_scores(view, start, read)?;
            let sample = [hidden.f_to_kind(Kind::Float)?, scores.f_log()?.f_transpose(0, 1)?];
            let [hidden, scores] = sample.map(|data| data.f_index_select(0, &chosen));
            self.samples[view.layer()].push([hidden?, scores?]);
            Ok(())
        })?;
        (self.texts, self.tokens) = (self.texts + 1, self.tokens + count);
        Ok(())
    }

    fn write(&self, folder: &Path) -> Result<Vec<String>> {
        let mut files = self.save(folder, "linear", None, &|inputs, targets, _| ridge(inputs, targets))?;
        files.append(
            &mut self.save(folder, "mlp", Some(HIDDEN), &|inputs, targets, seed| {
                mlp::train(inputs, targets, HIDDEN, seed)
            })?,
        );
        Ok(files)
    }
}

/// KVzip+ scores of the tokens `start..start + read`, `[kv_heads, read]`, by as many tokens at the end that repeat them.
fn plus_scores(view: &LayerView<'_>, start: i64, read: i64) -> Result<Tensor> {
    let hidden = view.hidden_states()?.f_select(0, 0)?;
    let factors = replay::inverse_norms(&hidden.f_narrow(0, hidden.size()[0] - read, read)?)?;
    let queries = view.rotated_queries(Span::Last(read as usize))?.f_squeeze_dim(0)?;
    let most = replay::read(&queries, &view.keys().f_squeeze_dim(0)?, Summary::Most(Some(&factors)))?;
    let received = most.f_narrow(2, start, read)?;
    let values = view.values().f_select(0, 0)?.f_narrow(1, start, read)?;
    let written = replay::written(&values, view.output_projection()?, view.geometry())?;
    // Zero has no logarithm.
    Ok(received.f_mul(&written)?.f_amax([1i64].as_slice(), false)?.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)
}

/// Least squares with an intercept: weight `[outputs, inputs]` and bias `[outputs]`.
fn ridge(inputs: &Tensor, targets: &Tensor) -> Result<Vec<Tensor>> {
    let (inputs, targets) = (inputs.f_to_kind(Kind::Double)?, targets.f_to_kind(Kind::Double)?);
    let mean = |data: &Tensor| data.f_mean_dim([0i64].as_slice(), true, Kind::Double);
    let (centre, level) = (mean(&inputs)?, mean(&targets)?);
    let (inputs, targets) = (inputs.f_sub(&centre)?, targets.f_sub(&level)?);
    let identity = Tensor::f_eye(inputs.size()[1], (Kind::Double, inputs.device()))?.f_mul_scalar(RIDGE)?;
    let transposed = inputs.f_transpose(0, 1)?;
    let products = transposed.f_matmul(&inputs)?.f_add(&identity)?;
    let weight = Tensor::f_linalg_solve(&products, &transposed.f_matmul(&targets)?, true);
    let weight = weight.during("least squares", &[&products, &targets])?;
    let bias = level.f_sub(&centre.f_matmul(&weight)?)?.f_squeeze_dim(0)?;
    let single = |data: &Tensor| data.f_to_kind(Kind::Float)?.f_contiguous();
    Ok(vec![single(&weight.f_transpose(0, 1)?)?, single(&bias)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvzap::predict;

    #[test]
    fn least_squares_finds_a_linear_map_and_its_intercept() {
        let inputs = random::uniform(1, &[500, 4], Device::Cpu).unwrap() * 50.0;
        let due = Tensor::from_slice(&[1.0f32, -2.0, 0.5, 0.0]).view([1, 4]);
        let targets = inputs.matmul(&due.transpose(0, 1)) + 3.0;
        let learned = ridge(&inputs, &targets).unwrap();
        let off = (predict(&learned, &inputs).unwrap() - targets).abs().max();
        assert!(f64::try_from(off).unwrap() < 1e-2);
    }
}
