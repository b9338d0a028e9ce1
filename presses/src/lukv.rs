//! `lukv`: every head has the budget that its future is worth.

use std::sync::Arc;

use pressroom::press::{Budget, ModelFacts, Needs, Params, Press, Range, Scorer, Selection, SideData};
use pressroom::{Result, view::LayerView};
use tch::Tensor;

use crate::adakv::best_of_each_head;
use crate::prepared::Prepared;

pressroom::press! {
    /// Gives every layer and head the budget that a measured curve says.
    ///
    /// # Idea
    /// How well a scorer's ranking foretells what later tokens attend to differs between heads. A curve, measured
    /// beforehand for a model and a scorer, says for every compression ratio how much each head gives up, so that the
    /// attention lost is least. Within a head the scorer decides.
    ///
    /// # Formula
    /// `kept of a head = the best n * (1 - curve[ratio, layer, head])`, rounded so that the layer's total is, and the
    /// first `sink` and last `window` tokens before others
    ///
    /// # Paper
    /// Tang et al., "Predicting Future Utility: Global Combinatorial Optimization for Task-Agnostic KV Cache
    /// Eviction", 2026, <https://arxiv.org/abs/2602.08585>
    "lukv" Press LuKvParams wraps(press: Scorer) {
        /// First tokens that are kept before others.
        sink: usize = 4, Range::closed(0.0, 1e9);
        /// Last tokens that are kept before others.
        window: usize = 1, Range::closed(0.0, 1e9);
        /// Folder with one curve, `*.npy` of shape `[99, layers, kv_heads]`: what is removed of each head at 1 % to
        /// 99 %. Absent: what `pressroom calibrate lukv` made.
        side_data: Option<String> = None, Range::ANY;
    }
}

/// The press: parameters, the scorer it wraps, and the curve.
pub struct LuKv {
    params: LuKvParams,
    scorer: Arc<dyn Scorer>,
    /// float32 `[99, layers, kv_heads]`
    curve: Prepared<Tensor>,
}

impl LuKv {
    /// Wraps `scorer`.
    ///
    /// # Errors
    /// Bad parameters.
    pub fn new(params: &Params, scorer: Arc<dyn Scorer>) -> Result<Self> {
        Ok(Self { params: LuKvParams::from_params(params)?, scorer, curve: Prepared::default() })
    }

    /// Entries that each KV head of a view keeps.
    fn kept(&self, view: &LayerView<'_>, budget: Budget) -> Result<Vec<i64>> {
        let (tokens, kv_heads) = (view.tokens(), view.geometry().kv_heads);
        let step = (budget.ratio(tokens) * 100.0).round_ties_even() as i64 - 1;
        let removed = self.curve.with(|curve| {
            let layer = curve.f_select(0, step.clamp(0, STEPS - 1))?.f_select(0, view.layer() as i64)?;
            Ok(Vec::<f32>::try_from(view.own_heads(&layer, 0)?)?)
        })?;
        let ideal: Vec<f32> = removed.iter().map(|removed| (1.0 - removed).clamp(0.0, 1.0) * tokens as f32).collect();
        let total = ideal.iter().sum::<f32>().round_ties_even() as i64;
        let mut kept: Vec<i64> = ideal.iter().map(|ideal| *ideal as i64).collect();
        let left = total.clamp(kv_heads, kv_heads * tokens) - kept.iter().sum::<i64>();
        let mut order: Vec<usize> = (0..kept.len()).collect();
        order.sort_by(|a, b| ideal[*b].fract().total_cmp(&ideal[*a].fract()));
        order.iter().take(usize::try_from(left).unwrap_or(0)).for_each(|head| kept[*head] += 1);
        Ok(kept.into_iter().map(|kept| kept.clamp(1, tokens)).collect())
    }
}

impl Press for LuKv {
    fn identity(&self) -> String {
        self.params.identity_around(&[self.scorer.identity()])
    }

    fn needs(&self) -> Needs {
        self.scorer.needs()
    }

    fn head_wise(&self) -> bool {
        true
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.scorer.prepare(model)?;
        self.curve.prepare(model, || {
            let data = SideData::open("lukv", self.params.side_data.as_deref(), model)?;
            data.array(&data.only("npy")?, &[STEPS, model.geometry.layers as i64, model.geometry.kv_heads])
        })
    }

    fn select(&self, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        if budget.keeps_all(view.tokens()) {
            return Ok(Selection::all());
        }
        let protected = view.first(self.params.sink)?.f_logical_or(&view.last(self.params.window)?)?;
        let scores = view.scores(self.scorer.as_ref(), budget)?.f_masked_fill(&protected, f64::INFINITY)?;
        let kept = self.kept(view, budget)?.repeat(view.batch() as usize);
        Selection::from_mask(&best_of_each_head(&scores, &kept)?)
    }
}

/// Compression ratios of a curve, 1 % to 99 %.
pub(crate) const STEPS: i64 = 99;
