//! Statistics for `expected_attention_stats`: what queries of the model are like.

use std::path::Path;

use pressroom::press::{ModelFacts, Needs, Span};
use pressroom::{Result, tensors};
use serde_json::json;
use tch::{Kind, Tensor};

use super::moments::Moments;
use super::{Calibration, Text, look_at, write_json};

/// Sums up queries before rotary embedding, all but those of the first tokens of each text.
pub struct ExpectedAttentionStatsCalibration {
    queries: Moments,
    model: ModelFacts,
    n_sink: i64,
    texts: usize,
    longest: usize,
}

impl ExpectedAttentionStatsCalibration {
    /// Nothing learned yet; the first `n_sink` tokens of each text will be left out.
    pub fn new(model: &ModelFacts, n_sink: i64) -> Self {
        Self { queries: Moments::new(model), model: model.clone(), n_sink, texts: 0, longest: 0 }
    }

    /// Mean `[layers, heads, head_dim]` and covariance `[layers, heads, head_dim, head_dim]`, float32.
    ///
    /// # Errors
    /// Nothing was learned.
    pub fn statistics(&self) -> Result<[Tensor; 2]> {
        Ok([self.queries.mean()?.f_to_kind(Kind::Float)?, self.queries.covariance()?.f_to_kind(Kind::Float)?])
    }
}

impl Calibration for ExpectedAttentionStatsCalibration {
    fn learn(&mut self, text: Text<'_>) -> Result<()> {
        let tokens = text.tokens.len();
        let counted = tokens as i64 - self.n_sink;
        if counted <= 0 {
            return Ok(());
        }
        (self.texts, self.longest) = (self.texts + 1, self.longest.max(tokens));
        let needs = Needs { queries: Span::All, ..Needs::KEYS_AND_VALUES };
        look_at(text.model, text.tokens, needs, &mut |view| {
            let queries = view.queries(Span::All)?.f_squeeze_dim(0)?.f_narrow(1, self.n_sink, counted)?;
            self.queries.add(view.layer(), &queries)
        })
    }

    fn write(&self, folder: &Path) -> Result<Vec<String>> {
        let (geometry, weights) = (self.model.geometry, "model.safetensors");
        let [mean, covariance] = self.statistics()?;
        let named = [("query_mean".into(), mean), ("query_cov".into(), covariance)];
        tensors::save(&folder.join(weights), &named, None)?;
        let config = json!({
            "num_layers": geometry.layers,
            "num_heads": geometry.heads,
            "head_dim": geometry.head_dim,
            "dataset_name": "texts given to pressroom calibrate",
            "model_name": self.model.name,
            "num_samples": self.texts,
            "sample_seq_len": self.longest,
            "n_sink": self.n_sink,
        });
        Ok(vec![weights.into(), write_json(folder, "config.json", &config)?])
    }
}
