//! `qfilter`: the direction that queries share.

use pressroom::error::During;
use pressroom::press::{Budget, ModelFacts, Needs, Params, Range, Scorer, SideData};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

use crate::prepared::Prepared;

pressroom::press! {
    /// Keeps the keys that lie in the direction of the model's queries.
    ///
    /// # Idea
    /// The queries of a head have one dominant direction, whatever the text, so the projection of a key on it stands
    /// for the attention that the key is going to receive. A filter is that direction's opposite, found beforehand:
    /// published for some models, and made for any by `pressroom calibrate qfilter`.
    ///
    /// # Formula
    /// `score = -<f, k>`, `f` being the filter of the layer and KV head: minus the first right singular vector of its
    /// queries, pointing away from their mean
    ///
    /// # Paper
    /// Godey et al., "Q-Filters: Leveraging QK Geometry for Efficient KV Cache Compression", 2025,
    /// <https://arxiv.org/abs/2503.02812>
    "qfilter" Scorer QFilterParams {
        /// Folder or hub id of the filters, as in `nthngdy/Llama-3.1-8B-Instruct_qfilt`: `model.safetensors` with
        /// `q_filters`, `[layers, kv_heads, head_dim]`. Absent: what `pressroom calibrate qfilter` made.
        side_data: Option<String> = None, Range::ANY;
    }
}

/// The press: parameters and the filters, one table `[kv_heads, head_dim]` a layer.
pub struct QFilter {
    params: QFilterParams,
    filters: Prepared<Vec<Vec<Tensor>>>,
}

impl QFilter {
    /// A press whose filters are read when it is prepared for a model.
    ///
    /// # Errors
    /// Bad parameters.
    pub fn new(params: &Params) -> Result<Self> {
        Ok(Self { params: QFilterParams::from_params(params)?, filters: Prepared::default() })
    }
}

impl Scorer for QFilter {
    fn identity(&self) -> String {
        self.params.identity()
    }

    fn needs(&self) -> Needs {
        Needs::KEYS_AND_VALUES
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.filters.prepare(model, || {
            let data = SideData::open("qfilter", self.params.side_data.as_deref(), model)?;
            let shape = [model.geometry.layers as i64, model.geometry.kv_heads, model.geometry.head_dim];
            let filters = data.tensors(WEIGHTS, &[("q_filters".into(), shape.to_vec())])?;
            Ok(filters[0].f_unbind(0)?.into_iter().map(|layer| vec![layer]).collect())
        })
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        let filter = &self.filters.tables(view.layer(), view.device())?[0];
        let filter = view.own_heads(filter, 0)?.f_unsqueeze(-1)?;
        let keys = view.keys().f_to_kind(Kind::Float)?;
        let projected = keys.f_matmul(&filter).during("projecting keys on filters", &[&keys, &filter])?;
        Ok(projected.f_squeeze_dim(-1)?.f_neg()?)
    }
}

const WEIGHTS: &str = "model.safetensors";
