//! `kvzip_plus`: what the reading moves, where `kvzip` counts what is read.

use pressroom::Result;
use pressroom::press::{Budget, Context, ContextPress, Range, Selection};
use tch::Tensor;

use crate::replay::Reconstruction;
use crate::sharing::{selections, share};

pressroom::press! {
    /// Keeps what moves the residual stream when the model repeats the context.
    ///
    /// # Idea
    /// As `kvzip`, but attention counts by its effect: it is multiplied by the length of what the value writes into the
    /// residual stream, and divided by the length of what the repeated token's attention block reads from there.
    ///
    /// # Formula
    /// `score = max over repeated tokens q and query heads of the group of softmax(q K / sqrt(d)) * ||v W_O|| / ||h||`,
    /// `h` being the hidden state that `q` comes from; infinite for the first `n_sink` tokens
    ///
    /// # Paper
    /// Jégou and Jeblick, "KVzap: Fast, Adaptive, and Faithful KV Cache Pruning", 2026,
    /// <https://arxiv.org/abs/2601.07891>
    "kvzip_plus" Context KvZipPlus {
        /// Whether every layer has the same budget, shared by its heads alone.
        layerwise: bool = false, Range::ANY;
        /// Tokens at the start that are always kept.
        n_sink: usize = 4, Range::closed(0.0, 1e9);
        /// Tokens of the context that each replay repeats.
        chunk_size: usize = 2048, Range::closed(1.0, 1e9);
    }
}

impl ContextPress for KvZipPlus {
    fn identity(&self) -> String {
        self.identity()
    }

    fn score(&self, context: &mut Context<'_>) -> Result<Vec<Tensor>> {
        Reconstruction { chunk_size: self.chunk_size, n_sink: self.n_sink, weighted: true }.score(context)
    }

    fn select(&self, scores: &[Tensor], budgets: &[Budget]) -> Result<Vec<Selection>> {
        selections(&share(scores, budgets, self.layerwise, Budget::left_together)?)
    }
}
