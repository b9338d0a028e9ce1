//! `kvgrad`: what the model's last hidden states depend on when it repeats the context.

use pressroom::Result;
use pressroom::press::{Budget, Context, ContextPress, Range, Selection};
use pressroom_kernels::received::Summary;
use tch::{Kind, Tensor};

use crate::replay::{Chunk, chunks, keep_sinks, read, unread, written};
use crate::sharing::{selections, share};

pressroom::press! {
    /// Keeps what the last hidden states depend on when the model repeats the context.
    ///
    /// # Idea
    /// As `kvzip`, but what a KV pair contributes to the residual stream of a repeated token counts as much as the last
    /// hidden states are sensitive to the stream there, which one backward pass through each repeated chunk tells.
    ///
    /// # Formula
    /// `score = max over repeated tokens p and query heads of the group of A[p, c] * ||v W_O|| * ||dF/da[p]||`, `A` being
    /// the attention that `kvzip` counts, `a` the residual stream after the attention block and `F` the sum of the
    /// squares of the last hidden states; infinite for the first `n_sink` tokens
    ///
    /// # Paper
    /// The one that kvpress names for its `KVgradPress`, 2026, <https://openreview.net/forum?id=cg1wTCJjjk>; written
    /// after that press and its description, <https://github.com/NVIDIA/kvpress/pull/279>
    "kvgrad" Context KvGrad {
        /// Whether every layer has the same budget, shared by its heads alone.
        layerwise: bool = false, Range::ANY;
        /// Tokens at the start that are always kept.
        n_sink: usize = 4, Range::closed(0.0, 1e9);
        /// Tokens of the context that each replay repeats: fewer give a finer gradient and take more passes.
        chunk_size: usize = 512, Range::closed(1.0, 1e9);
    }
}

impl ContextPress for KvGrad {
    fn identity(&self) -> String {
        self.identity()
    }

    fn score(&self, context: &mut Context<'_>) -> Result<Vec<Tensor>> {
        let geometry = context.model.geometry();
        let scores = unread(context)?;
        for Chunk { span, tokens } in chunks(context, self.chunk_size)? {
            let (sinks, length) = (span.start.min(self.n_sink as i64), span.end - span.start);
            let layers = context.model.sensitivities(&tokens, context.cache)?;
            for (index, (layer, cache)) in layers.iter().zip(context.cache.layers()).enumerate() {
                let (keys, values) = cache.span(span.start, length)?;
                let keys = Tensor::f_cat(&[&cache.span(0, sinks)?.0, &keys, &layer.keys], 1)?;
                let norms = written(&values, context.model.output_projection(index)?, geometry)?;
                let felt = layer.gradient.f_linalg_norm(2.0, [-1i64].as_slice(), false, Kind::Float)?;
                let most = read(&layer.queries, &keys, Summary::Most(Some(&felt)))?;
                let most = most.f_narrow(2, sinks, length)?.f_mul(&norms)?;
                let mut own = scores[index].f_narrow(1, span.start, length)?;
                own.f_copy_(&most.f_amax([1i64].as_slice(), false)?)?;
            }
        }
        keep_sinks(&scores, self.n_sink)?;
        Ok(scores)
    }

    fn select(&self, scores: &[Tensor], budgets: &[Budget]) -> Result<Vec<Selection>> {
        selections(&share(scores, budgets, self.layerwise, Budget::left_together)?)
    }
}
