//! `adakv`: heads share one budget.

use std::sync::Arc;

use pressroom::press::{Budget, ModelFacts, Needs, Params, Press, Range, Scorer, Selection};
use pressroom::{Result, view::LayerView};
use pressroom_kernels::order::descending;
use tch::{Kind, Tensor};

pressroom::press! {
    /// Lets the heads of a layer compete for one budget.
    ///
    /// # Idea
    /// Heads differ in how many KV pairs they need. The scores of all KV heads of a layer are ranked together and the
    /// best are kept, whichever head they belong to; a safeguard keeps the best of every head first. Heads then hold
    /// different numbers of KV pairs, which the ragged cache stores without gaps.
    ///
    /// # Formula
    /// `kept = the best floor(alpha_safeguard * n) of each head, and the best of all others up to n * kv_heads`, `n`
    /// being the number per head that the compression ratio leaves
    ///
    /// # Paper
    /// Feng et al., "Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient LLM Inference",
    /// 2024, <https://arxiv.org/abs/2407.11550>
    "adakv" Press AdaKvParams wraps(press: Scorer) {
        /// Fraction of its even share that every head keeps; at least one KV pair unless 0.
        alpha_safeguard: f64 = 0.2, Range::closed(0.0, 1.0);
    }
}

/// The press: parameters and the scorer it wraps.
pub struct AdaKv {
    params: AdaKvParams,
    scorer: Arc<dyn Scorer>,
}

impl AdaKv {
    /// Wraps `scorer`.
    ///
    /// # Errors
    /// Bad parameters.
    pub fn new(params: &Params, scorer: Arc<dyn Scorer>) -> Result<Self> {
        Ok(Self { params: AdaKvParams::from_params(params)?, scorer })
    }
}

impl Press for AdaKv {
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
        self.scorer.prepare(model)
    }

    fn select(&self, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        let tokens = view.tokens();
        if budget.keeps_all(tokens) {
            return Ok(Selection::all());
        }
        let scores = view.scores(self.scorer.as_ref(), budget)?;
        let order = view.ranking(self.scorer.as_ref(), budget)?;
        let kept = budget.kept(tokens);
        let safe = safeguard(kept, self.params.alpha_safeguard);
        Selection::from_mask(&best_of_all_heads(&scores, &order, kept, safe)?)
    }

    fn select_heads(&self, heads: &[LayerView<'_>], budget: Budget) -> Result<Selection> {
        let lengths: Vec<i64> = heads.iter().map(LayerView::tokens).collect();
        let kept = budget.kept_of_heads(&lengths);
        let safe = safeguard(kept / heads.len().max(1) as i64, self.params.alpha_safeguard);
        let mut scores = Vec::with_capacity(heads.len());
        for head in heads.iter().filter(|head| head.tokens() > 0) {
            let safest = head.ranking(self.scorer.as_ref(), budget)?.f_narrow(2, 0, safe.min(head.tokens()))?;
            let own = head.scores(self.scorer.as_ref(), budget)?.f_scatter_value(2, &safest, f64::INFINITY)?;
            scores.push(own.f_flatten(0, -1)?);
        }
        let order = descending(&Tensor::f_cat(&scores, 0)?)?;
        let best: Vec<i64> = Vec::try_from(order.f_narrow(0, 0, kept)?.f_sort(0, false)?.0)?;
        let (mut lists, mut best, mut start) = (Vec::with_capacity(heads.len()), &best[..], 0);
        for length in lengths {
            let (own, others) = best.split_at(best.partition_point(|entry| *entry < start + length));
            lists.push(own.iter().map(|entry| entry - start).collect());
            (best, start) = (others, start + length);
        }
        Selection::from_lists(&lists, order.device())
    }
}

/// How many of `kept` KV pairs every head keeps whatever the others' scores: at least one, unless `alpha` is 0.
pub(crate) fn safeguard(kept: i64, alpha: f64) -> i64 {
    let safe = (kept as f64 * alpha) as i64;
    if alpha > 0.0 { safe.max(1) } else { safe }
}

/// Whether an entry is among the best `kept * kv_heads` of its layer, bool `[batch, kv_heads, tokens]`; the best
/// `safe` of each head are, by `order`, its ranking.
pub(crate) fn best_of_all_heads(scores: &Tensor, order: &Tensor, kept: i64, safe: i64) -> Result<Tensor> {
    let (batch, kv_heads, tokens) = scores.size3()?;
    let safeguarded = scores.f_scatter_value(2, &order.f_narrow(2, 0, safe)?, f64::INFINITY)?;
    let best = descending(&safeguarded.f_view([batch, kv_heads * tokens])?)?;
    let mask = Tensor::f_zeros([batch, kv_heads * tokens], (Kind::Bool, scores.device()))?;
    let mask = mask.f_scatter_value(1, &best.f_narrow(1, 0, kept * kv_heads)?, 1)?;
    Ok(mask.f_view([batch, kv_heads, tokens])?)
}
