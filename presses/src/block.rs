//! `block`: compression block by block, in bounded memory.

use pressroom::press::{Budget, Needs, Range, Scorer, Selection, Wrapper};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

use crate::chunk::scores_parts;

pressroom::press! {
    /// Takes the context in block by block, and evicts after each down to the budget.
    ///
    /// # Idea
    /// A cache of bounded size reads a prompt of any length: after each block of tokens, what is held and what is new are
    /// scored together and the best are kept. The decisions are those of such a cache; the hidden states are those of
    /// one pass over the whole context.
    ///
    /// # Formula
    /// `kept = the first n tokens; then for each block, kept = the best n of kept and block`
    ///
    /// # Paper
    /// Park et al., "KeyDiff: Key Similarity-Based KV Cache Eviction for Long-Context LLM Inference in
    /// Resource-Constrained Environments", 2025, <https://arxiv.org/abs/2504.15364>
    "block" Press Block wraps(press: Scorer) {
        /// Tokens of a block.
        block_size: usize = 128, Range::closed(1.0, 1e9);
    }
}

impl Wrapper for Block {
    fn identity(&self, scorer: String) -> String {
        self.identity_around(&[scorer])
    }

    fn needs(&self, scorer: Needs) -> Needs {
        // Windows are needed at the end of every block.
        scorer.everywhere()
    }

    fn check(&self, scorer: &dyn Scorer) -> Result<()> {
        scores_parts("block", scorer)
    }

    fn select(&self, scorer: &dyn Scorer, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        let tokens = view.tokens();
        if budget.keeps_all(tokens) {
            return Ok(Selection::all());
        }
        let n = budget.kept(tokens);
        let entries = |start: i64, end: i64| -> Result<Tensor> {
            let entries = Tensor::f_arange_start(start, end, (Kind::Int64, view.device()))?;
            Ok(entries.f_expand([view.batch(), view.geometry().kv_heads, end - start], false)?)
        };
        let mut kept = entries(0, n)?;
        for start in (n..tokens).step_by(self.block_size) {
            let end = start.saturating_add(self.block_size as i64).min(tokens);
            let held = Tensor::f_cat(&[kept, entries(start, end)?], 2)?;
            let cache = view.slice(0, end)?.restrict(&Selection::ascending(held.shallow_clone())?)?;
            let best = cache.best(scorer, Budget::Tokens(n as usize), n)?;
            kept = held.f_gather(2, &best, false)?;
        }
        Selection::ascending(kept)
    }
}
