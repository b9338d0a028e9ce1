//! `chunkkv`: whole phrases are kept or evicted.

use std::sync::Arc;

use pressroom::press::{Budget, ModelFacts, Needs, Params, Press, Range, Scored, Scorer, Selection};
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
    "chunkkv" Press ChunkKvParams wraps(press: Scorer) {
        /// Tokens of a chunk.
        chunk_length: usize = 20, Range::closed(1.0, 1e9);
    }
}

/// The press: parameters and the scorer it wraps.
pub struct ChunkKv {
    params: ChunkKvParams,
    scorer: Arc<dyn Scorer>,
}

impl ChunkKv {
    /// Wraps `scorer`.
    ///
    /// # Errors
    /// Bad parameters.
    pub fn new(params: &Params, scorer: Arc<dyn Scorer>) -> Result<Self> {
        Ok(Self { params: ChunkKvParams::from_params(params)?, scorer })
    }
}

impl Press for ChunkKv {
    fn identity(&self) -> String {
        self.params.identity_around(&[self.scorer.identity()])
    }

    fn needs(&self) -> Needs {
        self.scorer.needs()
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.scorer.prepare(model)
    }

    fn select(&self, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        let (tokens, length) = (view.tokens(), self.params.chunk_length as i64);
        if budget.keeps_all(tokens) {
            return Ok(Selection::all());
        }
        if tokens < length {
            return Scored(self.scorer.clone()).select(view, budget);
        }
        let chunks = (tokens + length - 1) / length;
        let kept = Budget::from_ratio(budget.ratio(tokens))?.kept(chunks);
        let TokenScores { scores, protected } = TokenScores::of(view, self.scorer.as_ref(), budget)?;
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
