//! `chunkkv`: whole phrases are kept or evicted.

use pressroom::press::{Budget, Range, Scorer, Selection, Wrapper};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

use crate::token_scores::TokenScores;

pressroom::press! {
    /// Keeps or evicts chunks of neighbouring tokens as a whole.
    ///
    /// # Idea
    /// Meaning sits in phrases, and evicting tokens one by one tears them apart. The scores of another method are summed
    /// over heads and averaged over chunks; the best chunks are kept in every head. Chunks with more protected tokens
    /// (sinks, windows) go first. A context shorter than a chunk is compressed by the scorer alone.
    ///
    /// # Formula
    /// `kept = the best floor(chunks * (1 - compression_ratio)) chunks by mean score`; at least one, and the last one may
    /// be shorter
    ///
    /// # Paper
    /// Liu et al., "ChunkKV: Semantic-Preserving KV Cache Compression for Efficient Long-Context LLM Inference", 2025,
    /// <https://arxiv.org/abs/2502.00299>
    "chunkkv" Press ChunkKv wraps(press: Scorer) {
        /// Tokens of a chunk.
        chunk_length: usize = 20, Range::closed(1.0, 1e9);
    }
}

impl Wrapper for ChunkKv {
    fn identity(&self, scorer: String) -> String {
        self.identity_around(&[scorer])
    }

    fn select(&self, scorer: &dyn Scorer, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        let (tokens, length) = (view.tokens(), self.chunk_length as i64);
        if budget.keeps_all(tokens) {
            return Ok(Selection::all());
        }
        if tokens < length {
            return scorer.select(view, budget);
        }
        let chunks = (tokens + length - 1) / length;
        let kept = Budget::from_ratio(budget.ratio(tokens))?.kept(chunks);
        let TokenScores { scores, protected } = TokenScores::of(view, scorer, budget)?;
        let means = chunk_means(&scores, length)?;
        let shares = chunk_means(&protected.f_to_kind(Kind::Float)?, length)?;
        // By protected share, and where that is equal by score: stable sorts, the last one counts most.
        let (_, by_mean) = means.f_sort_stable(true, 1, true)?;
        let (_, by_share) = shares.f_gather(1, &by_mean, false)?.f_sort_stable(true, 1, true)?;
        let best = by_mean.f_gather(1, &by_share, false)?.f_narrow(1, 0, kept)?;
        let chosen = means.f_zeros_like()?.f_to_kind(Kind::Bool)?.f_scatter_value(1, &best, 1)?;
        let mask = chosen.f_repeat_interleave_self_int(length, 1, None)?.f_narrow(1, 0, tokens)?;
        Selection::from_token_mask(&mask, view.geometry().kv_heads)
    }
}

/// Means over chunks of `length` tokens of `data`, `[batch, tokens]`; the last chunk may be shorter.
fn chunk_means(data: &Tensor, length: i64) -> Result<Tensor> {
    let (_, tokens) = data.size2()?;
    let whole = tokens / length * length;
    let mean = |part: Tensor| part.f_mean_dim([2i64].as_slice(), false, Kind::Float);
    let means = mean(data.f_narrow(1, 0, whole)?.f_unflatten(1, [whole / length, length])?)?;
    if whole == tokens {
        return Ok(means);
    }
    let rest = mean(data.f_narrow(1, whole, tokens - whole)?.f_unsqueeze(1)?)?;
    Ok(Tensor::f_cat(&[means, rest], 1)?)
}
