//! `expected_attention_stats`: expected attention by what queries of the model are like, not those of the context.

use pressroom::press::{Budget, ModelFacts, Needs, Params, Range, Scorer, SideData};
use pressroom::{Result, view::LayerView};
use tch::Tensor;

use crate::expected_attention::ExpectedAttention;
use crate::prepared::Prepared;
use crate::too_short;

pressroom::press! {
    /// Keeps what the model's queries are expected to attend to, whatever the context.
    ///
    /// # Idea
    /// Like `expected_attention`, but mean and covariance of the queries are those of the model, measured once over
    /// other texts. No query of the context is read.
    ///
    /// # Formula
    /// that of `expected_attention`, with the mean and covariance of the measured queries
    ///
    /// # Paper
    /// Devoto, Jeblick and Jégou, "Expected Attention: KV Cache Compression by Estimating Attention from Future
    /// Queries Distribution", 2025, <https://arxiv.org/abs/2510.00636>
    "expected_attention_stats" Scorer ExpectedAttentionStatsParams {
        /// Positions after the context over which the rotation is averaged.
        n_future_positions: usize = 512, Range::closed(1.0, 1e6);
        /// Tokens at the start that are always kept.
        n_sink: usize = 4, Range::closed(0.0, 1e9);
        /// Whether the covariance of the queries counts, not their mean alone.
        use_covariance: bool = true, Range::ANY;
        /// Whether scores are weighted by the norm of the value.
        use_vnorm: bool = true, Range::ANY;
        /// Added to the expected attention before weighting.
        epsilon: f64 = 0.0, Range::at_least(0.0);
        /// Folder or hub id of the statistics: `model.safetensors` with `query_mean`, `[layers, heads, head_dim]`, and
        /// `query_cov`, `[layers, heads, head_dim, head_dim]`. Absent: what `pressroom calibrate
        /// expected_attention_stats` made.
        side_data: Option<String> = None, Range::ANY;
    }
}

/// The press: the formula's parameters, and mean and covariance of the queries of each layer.
pub struct ExpectedAttentionStats {
    params: ExpectedAttentionStatsParams,
    formula: ExpectedAttention,
    statistics: Prepared<Vec<Vec<Tensor>>>,
}

impl ExpectedAttentionStats {
    /// A press whose statistics are read when it is prepared for a model.
    ///
    /// # Errors
    /// Bad parameters.
    pub fn new(params: &Params) -> Result<Self> {
        let params = ExpectedAttentionStatsParams::from_params(params)?;
        let formula = ExpectedAttention {
            n_future_positions: params.n_future_positions,
            n_sink: params.n_sink,
            use_covariance: params.use_covariance,
            use_vnorm: params.use_vnorm,
            epsilon: params.epsilon,
        };
        Ok(Self { params, formula, statistics: Prepared::default() })
    }
}

impl Scorer for ExpectedAttentionStats {
    fn identity(&self) -> String {
        self.params.identity()
    }

    fn needs(&self) -> Needs {
        Needs::KEYS_AND_VALUES
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.statistics.prepare(model, || {
            let (name, given) = ("expected_attention_stats", self.params.side_data.as_deref());
            let data = SideData::open(name, given, model)?;
            let (layers, kv_heads) = (model.geometry.layers as i64, model.geometry.kv_heads);
            let (heads, channels) = (model.geometry.heads, model.geometry.head_dim);
            let mean = ("query_mean".to_owned(), vec![layers, heads, channels]);
            let covariance = ("query_cov".to_owned(), vec![layers, heads, channels, channels]);
            let tables = data.tensors(WEIGHTS, &[mean, covariance])?;
            let grouped = |table: &Tensor| table.f_unflatten(1, [kv_heads, heads / kv_heads])?.f_unbind(0);
            let layers = grouped(&tables[0])?.into_iter().zip(grouped(&tables[1])?);
            Ok(layers.map(|(mean, covariance)| vec![mean, covariance]).collect())
        })
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        too_short("n_sink", self.params.n_sink, view)?;
        let tables = self.statistics.tables(view.layer(), view.device())?;
        let own =
            |table: &Tensor| Ok::<_, pressroom::Error>(view.own_heads(table, 0)?.f_flatten(0, 1)?.f_unsqueeze(0)?);
        let covariance = self.params.use_covariance.then(|| own(&tables[1])).transpose()?;
        self.formula.score_with(view, &own(&tables[0])?, covariance.as_ref())
    }
}

const WEIGHTS: &str = "model.safetensors";
