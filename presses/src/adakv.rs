//! `adakv`: heads share one budget.

use pressroom::press::{Budget, Range, Scorer, Selection, Wrapper};
use pressroom::{Result, view::LayerView};
use pressroom_kernels::order::{among_best, best};
use tch::Tensor;

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
    "adakv" Press AdaKv wraps(press: Scorer) {
        /// Fraction of its even share that every head keeps; at least one KV pair unless 0.
        alpha_safeguard: f64 = 0.2, Range::closed(0.0, 1.0);
    }
}

impl Wrapper for AdaKv {
    fn identity(&self, scorer: String) -> String {
        self.identity_around(&[scorer])
    }

    fn head_wise(&self) -> bool {
        true
    }

    fn select(&self, scorer: &dyn Scorer, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        let tokens = view.tokens();
        if budget.keeps_all(tokens) {
            return Ok(Selection::all());
        }
        let scores = view.scores(scorer, budget)?;
        let kept = budget.kept(tokens);
        let safe = safeguard(kept, self.alpha_safeguard);
        Selection::from_mask(&best_of_all_heads(&scores, kept, safe)?)
    }

    fn select_heads(&self, scorer: &dyn Scorer, heads: &[LayerView<'_>], budget: Budget) -> Result<Selection> {
        let lengths: Vec<i64> = heads.iter().map(LayerView::tokens).collect();
        let kept = budget.kept_of_heads(&lengths);
        let safe = safeguard(kept / heads.len().max(1) as i64, self.alpha_safeguard);
        let mut scores = Vec::with_capacity(heads.len());
        for head in heads.iter().filter(|head| head.tokens() > 0) {
            let safest = head.best(scorer, budget, safe.min(head.tokens()))?;
            let own = head.scores(scorer, budget)?.f_scatter_value(2, &safest, f64::INFINITY)?;
            scores.push(own.f_flatten(0, -1)?);
        }
        let scores = Tensor::f_cat(&scores, 0)?;
        let best: Vec<i64> = best(&scores, kept)?.try_into()?;
        let (mut lists, mut best, mut start) = (Vec::with_capacity(heads.len()), &best[..], 0);
        for length in lengths {
            let (own, others) = best.split_at(best.partition_point(|entry| *entry < start + length));
            lists.push(own.iter().map(|entry| entry - start).collect());
            (best, start) = (others, start + length);
        }
        Selection::from_lists(&lists, scores.device())
    }
}

/// How many of `kept` KV pairs every head keeps whatever the others' scores: at least one, unless `alpha` is 0.
pub(crate) fn safeguard(kept: i64, alpha: f64) -> i64 {
    let safe = (kept as f64 * alpha) as i64;
    if alpha > 0.0 { safe.max(1) } else { safe }
}

/// Whether an entry is among the best `kept * kv_heads` of its layer, bool `[batch, kv_heads, tokens]`; the best
/// `safe` of each head are.
pub(crate) fn best_of_all_heads(scores: &Tensor, kept: i64, safe: i64) -> Result<Tensor> {
    let (batch, kv_heads, tokens) = scores.size3()?;
    let safeguarded = scores.f_scatter_value(2, &best(scores, safe)?, f64::INFINITY)?;
    let counts = vec![kept * kv_heads; batch as usize];
    Ok(among_best(&safeguarded.f_flatten(1, 2)?, &counts)?.f_view([batch, kv_heads, tokens])?)
}

/// Whether an entry is among the best of its head, bool `[batch, kv_heads, tokens]`, of which each has a count of its
/// own, `[batch * kv_heads]`.
pub(crate) fn best_of_each_head(scores: &Tensor, counts: &[i64]) -> Result<Tensor> {
    Ok(among_best(&scores.f_flatten(0, 1)?, counts)?.f_view(scores.size().as_slice())?)
}
