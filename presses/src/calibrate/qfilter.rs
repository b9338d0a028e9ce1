//! Filters for `qfilter`: the direction that the queries of a head share.

use std::path::Path;

use pressroom::press::{ModelFacts, Needs, Span};
use pressroom::{Result, error::During, tensors};
use serde_json::json;
use tch::{Kind, Tensor};

use super::moments::Moments;
use super::{Calibration, Text, look_at, write_json};

/// Sums up rotated queries.
///
/// The right singular vectors of a head's queries are the eigenvectors of their products; the first one, pointing the
/// way that the queries do on average, is averaged over the query group. Stored is the opposite: presses take away the
/// projection on it.
pub struct QFilterCalibration {
    queries: Moments,
    model: ModelFacts,
}

impl QFilterCalibration {
    /// Nothing learned yet.
    pub fn new(model: &ModelFacts) -> Self {
        Self { queries: Moments::new(model), model: model.clone() }
    }

    /// Filters `[layers, kv_heads, head_dim]`.
    ///
    /// # Errors
    /// Nothing was learned.
    pub fn filters(&self) -> Result<Tensor> {
        let (products, mean) = (self.queries.products()?, self.queries.mean()?);
        let (_, vectors) = products.f_linalg_eigh("L").during("singular vectors of the queries", &[&products])?;
        // Eigenvalues ascend, so the first singular vector is the last column.
        let first = vectors.f_select(3, self.model.geometry.head_dim - 1)?;
        let along = first.f_mul(&mean)?.f_sum_dim_intlist([-1i64].as_slice(), true, Kind::Double)?;
        let directed = first.f_mul(&along.f_ge(0.0)?.f_to_kind(Kind::Double)?.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?)?;
        let grouped = directed.f_unflatten(1, [self.model.geometry.kv_heads, self.model.geometry.group()])?;
        Ok(grouped.f_mean_dim([2i64].as_slice(), false, Kind::Double)?.f_neg()?.f_to_kind(Kind::Float)?)
    }
}

impl Calibration for QFilterCalibration {
    fn learn(&mut self, text: Text<'_>) -> Result<()> {
        let needs = Needs { queries: Span::All, ..Needs::KEYS_AND_VALUES };
        look_at(text.model, text.tokens, needs, &mut |view| {
            self.queries.add(view.layer(), &view.rotated_queries(Span::All)?.f_squeeze_dim(0)?)
        })
    }

    fn write(&self, folder: &Path) -> Result<Vec<String>> {
        let (geometry, weights) = (self.model.geometry, "model.safetensors");
        tensors::save(&folder.join(weights), &[("q_filters".into(), self.filters()?)], None)?;
        let config = json!({
            "num_layers": geometry.layers,
            "num_kv_heads": geometry.kv_heads,
            "kv_head_dim": geometry.head_dim,
        });
        Ok(vec![weights.into(), write_json(folder, "config.json", &config)?])
    }
}
