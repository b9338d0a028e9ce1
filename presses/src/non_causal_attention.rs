//! `non_causal_attention`: attention as if the neighbourhood could look ahead.

use pressroom::error::During;
use pressroom::press::{Budget, Needs, Range, Scorer, Span};
use pressroom::{Result, view::LayerView};
use pressroom_kernels::vector_norm;
use tch::{Kind, Tensor};

use crate::algebra::z_scores;

/// Chunks are taken together up to this many tokens.
const BLOCK: i64 = 1024;

pressroom::press! {
    /// Keeps what the tokens around it, before and after, attend to.
    ///
    /// # Idea
    /// Causal attention favours early tokens, which more queries see. Here the context is cut into chunks in which
    /// every query sees every key, whatever their order; what a key receives is averaged over the query group,
    /// weighted by the norm of its value and smoothed over three tokens. Logits are not divided by `sqrt(d)`.
    ///
    /// # Formula
    /// `score = z(avg_pool_3(mean over the query group of (sum over the queries q of the chunk of softmax(q K)) * ||v||))`,
    /// `z` over all heads and tokens of the layer
    ///
    /// # Paper
    /// Chari and Van Durme, "Compactor: Calibrated Query-Agnostic KV Cache Compression with Approximate Leverage
    /// Scores", 2025, <https://arxiv.org/abs/2507.08143>
    "non_causal_attention" Scorer NonCausalAttention {
        /// Tokens of a chunk.
        chunk_size: usize = 256, Range::closed(1.0, 1e9);
    }
}

impl Scorer for NonCausalAttention {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs { queries: Span::All, ..Needs::KEYS_AND_VALUES }
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        let (tokens, chunk) = (view.tokens(), self.chunk_size as i64);
        let queries = self.queries_at_entries(view)?;
        let keys = view.keys().f_to_kind(Kind::Float)?;
        // Whole chunks a block at a time, then what is left as a chunk of its own length.
        let (whole, block) = (tokens - tokens % chunk, (BLOCK / chunk).max(1) * chunk);
        let mut received = Vec::new();
        for start in (0..whole).step_by(block as usize) {
            received.push(within_chunks(&queries, &keys, start, block.min(whole - start), chunk)?);
        }
        if whole < tokens {
            received.push(within_chunks(&queries, &keys, whole, tokens - whole, tokens - whole)?);
        }
        let norms = vector_norm::l2(view.values())?;
        let weighted = Tensor::f_cat(&received, 2)?.f_mul(&norms)?;
        z_scores(&weighted.f_avg_pool1d([3], [1], [1], false, true)?)
    }
}

impl NonCausalAttention {
    /// Rotated queries of the tokens that each KV head's entries stand for, float32
    /// `[batch, kv_heads, tokens, group, head_dim]`.
    fn queries_at_entries(&self, view: &LayerView<'_>) -> Result<Tensor> {
        let (batch, geometry) = (view.batch(), view.geometry());
        let (group, width) = (geometry.group(), geometry.head_dim);
        let queries = view.rotated_queries(Span::All)?.f_view([batch, geometry.kv_heads, group, -1, width])?;
        let by_token = queries.f_transpose(2, 3)?.f_reshape([batch, geometry.kv_heads, -1, group * width])?;
        Ok(view.at_entries(&by_token)?.f_view([batch, geometry.kv_heads, view.tokens(), group, width])?)
    }
}

/// What the keys of `start..start + length` receive within chunks of `chunk` tokens, averaged over the query group:
/// `[batch, kv_heads, length]`.
fn within_chunks(queries: &Tensor, keys: &Tensor, start: i64, length: i64, chunk: i64) -> Result<Tensor> {
    let (batch, kv_heads, _, width) = keys.size4()?;
    let group = queries.size5()?.3;
    let chunked = |data: &Tensor, rows: i64| {
        data.f_narrow(2, start, length)?.f_reshape([batch, kv_heads, length / chunk, rows, width])
    };
    let (queries, keys) = (chunked(queries, chunk * group)?, chunked(keys, chunk)?);
    let logits = queries.f_matmul(&keys.f_transpose(3, 4)?).during("attention within chunks", &[&queries, &keys])?;
    let received = logits.f_softmax(-1, Kind::Float)?.f_sum_dim_intlist([3i64].as_slice(), false, Kind::Float)?;
    Ok(received.f_div_scalar(group)?.f_view([batch, kv_heads, length])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn a_short_last_chunk_shares_out_its_queries_and_nothing_else() {
        let draw = |seed, heads| pressroom::random::normal(seed, &[1, heads, 11, 4], Device::Cpu).unwrap();
        let (queries, keys) = (draw(1, 2).view([1, 2, 11, 1, 4]), draw(2, 2));
        let received = within_chunks(&queries, &keys, 8, 3, 3).unwrap();
        let totals =
            Vec::<f32>::try_from(received.sum_dim_intlist([2i64].as_slice(), false, Kind::Float).view(-1)).unwrap();
        assert!(totals.iter().all(|total| (total - 3.0).abs() < 1e-5), "{totals:?}");
    }
}
