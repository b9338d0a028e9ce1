//! Head scores for `duo_attention`, by kvpress's method on the fly: no training.

use std::path::Path;

use pressroom::model::Rotary;
use pressroom::press::{ModelFacts, Needs, Span};
use pressroom::view::LayerView;
use pressroom::{Error, Result, error::During};
use serde_json::json;
use tch::{Kind, Tensor};

use super::{Calibration, Text, look_at, nothing_learned, write_json};

/// What streaming heads keep, as in the published patterns of on-the-fly scores.
const SINK_SIZE: usize = 128;
const RECENT_SIZE: usize = 256;

/// Averages head scores over texts.
///
/// The mean query of a text stands at the end of a sequence in which its mean key stands everywhere; the attention of
/// the one over the others, which rotary embedding alone makes uneven, is cumulated from the start. The area under that
/// curve is large for heads that look back far.
pub struct DuoAttentionCalibration {
    length: i64,
    texts: usize,
    /// Sums, `[layers][kv_heads]`.
    sums: Vec<Vec<f64>>,
}

impl DuoAttentionCalibration {
    /// Nothing learned yet; the sequence of mean keys will have `length` tokens.
    pub fn new(model: &ModelFacts, length: i64) -> Self {
        let geometry = model.geometry;
        Self { length, texts: 0, sums: vec![vec![0.0; geometry.kv_heads as usize]; geometry.layers] }
    }

    /// Mean scores, `[layers][kv_heads]`.
    ///
    /// # Errors
    /// Nothing was learned.
    pub fn scores(&self) -> Result<Vec<Vec<f64>>> {
        match self.texts {
            0 => Err(nothing_learned()),
            texts => Ok(self.sums.iter().map(|row| row.iter().map(|sum| sum / texts as f64).collect()).collect()),
        }
    }

    /// Scores of one layer of one text, `[kv_heads]`.
    fn of_layer(&self, view: &LayerView<'_>) -> Result<Vec<f64>> {
        let geometry = view.geometry();
        let mean = |data: &Tensor| data.f_squeeze_dim(0)?.f_mean_dim([1i64].as_slice(), true, Kind::Float);
        let (query, key) = (mean(&view.queries(Span::All)?)?, mean(&view.unrotated_keys()?)?);
        let positions = Tensor::f_arange(self.length, (Kind::Int64, view.device()))?;
        let (cos, sin) = view.rotary().tables(&positions, Kind::Float)?;
        let last = |table: &Tensor| table.f_narrow(0, self.length - 1, 1);
        let query = Rotary::rotate(&query, &last(&cos)?, &last(&sin)?)?;
        let query = query.f_view([geometry.kv_heads, geometry.group(), geometry.head_dim])?;
        let keys = Rotary::rotate(&key, &cos, &sin)?;
        let weights = query
            .f_matmul(&keys.f_transpose(1, 2)?)
            .and_then(|logits| logits.f_div_scalar((geometry.head_dim as f64).sqrt())?.f_softmax(-1, Kind::Float))
            .during("attention of the mean query", &[&query, &keys])?;
        let area = weights.f_cumsum(-1, Kind::Float)?.f_mean_dim([1i64, 2].as_slice(), false, Kind::Double)?;
        Ok(Vec::try_from(area)?)
    }
}

impl Calibration for DuoAttentionCalibration {
    fn learn(&mut self, text: Text<'_>) -> Result<()> {
        self.texts += 1;
        let needs = Needs { queries: Span::All, ..Needs::KEYS_AND_VALUES };
        look_at(text.model, text.tokens, needs, &mut |view| {
            let scores = self.of_layer(view)?;
            self.sums[view.layer()].iter_mut().zip(scores).for_each(|(sum, score)| *sum += score);
            Ok(())
        })
    }

    fn write(&self, folder: &Path) -> Result<Vec<String>> {
        let row = |row: &Vec<f64>| row.iter().map(|score| format!("{score:.8}")).collect::<Vec<_>>().join("\t");
        let rows: Vec<String> = self.scores()?.iter().map(row).collect();
        let (scores, path) = ("full_attention_heads.tsv", folder.join("full_attention_heads.tsv"));
        std::fs::write(&path, rows.join("\n") + "\n").map_err(Error::io(&path))?;
        let config = json!({ "sink_size": SINK_SIZE, "recent_size": RECENT_SIZE });
        Ok(vec![scores.into(), write_json(folder, "config.json", &config)?])
    }
}
