//! `kvzip`: what it takes to repeat the context.

use pressroom::Result;
use pressroom::press::{Budget, Context, ContextPress, Range, Selection};
use tch::Tensor;

use crate::replay::Reconstruction;
use crate::sharing::{selections, share};

pressroom::press! {
    /// Keeps what the model reads when it repeats the context.
    ///
    /// # Idea
    /// A cache from which the context can be reconstructed can answer any question about it. After the prefill the
    /// model is asked to repeat the context, chunk by chunk, with the full cache before it; a KV pair scores by the
    /// most attention that any repeated token pays to it. All heads of all layers share one budget. The replay costs
    /// about two prefills, once for all ratios.
    ///
    /// # Formula
    /// `score = max over repeated tokens q and query heads of the group of softmax(q K / sqrt(d))`, `K` being the sinks,
    /// the chunk and the repetition so far; infinite for the first `n_sink` tokens, 0 for the rest of the chat template
    ///
    /// # Paper
    /// Kim et al., "KVzip: Query-Agnostic KV Cache Compression with Context Reconstruction", 2025,
    /// <https://arxiv.org/abs/2505.23416>
    "kvzip" Context KvZip {
        /// Whether every layer has the same budget, shared by its heads alone.
        layerwise: bool = false, Range::ANY;
        /// Tokens at the start that are always kept.
        n_sink: usize = 4, Range::closed(0.0, 1e9);
        /// Tokens of the context that each replay repeats.
        chunk_size: usize = 2048, Range::closed(1.0, 1e9);
    }
}

impl ContextPress for KvZip {
    fn identity(&self) -> String {
        self.identity()
    }

    fn score(&self, context: &mut Context<'_>) -> Result<Vec<Tensor>> {
        Reconstruction { chunk_size: self.chunk_size, n_sink: self.n_sink, weighted: false }.score(context)
    }

    fn select(&self, scores: &[Tensor], budgets: &[Budget]) -> Result<Vec<Selection>> {
        selections(&share(scores, budgets, self.layerwise, Budget::left_together)?)
    }
}
