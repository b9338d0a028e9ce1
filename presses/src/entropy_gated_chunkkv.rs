//! `entropy_gated_chunkkv`: chunks that matter for one token give up the others.

use pressroom::press::{Budget, Params, Range, Scorer, Selection, Wrapper};
use pressroom::{Error, Result, view::LayerView};
use tch::{Kind, Tensor};

use crate::token_scores::TokenScores;

pressroom::press! {
    /// Keeps chunks whole where their scores are even, and the best tokens of those where they are not.
    ///
    /// # Idea
    /// chunkkv spends a whole chunk on one important token. Here a chunk of at least median score whose scores are
    /// spiky, by an entropy below the median, keeps its best tokens only; what that frees goes to further chunks, and
    /// the rest of the budget to the best tokens that are left. Protected tokens (sinks, windows) are kept in any case.
    ///
    /// # Formula
    /// `H = -sum(p log(p + 1e-8)) / log(tokens of the chunk)`, `p` being the chunk's scores over their sum, made
    /// non-negative
    ///
    /// # Paper
    /// None of its own; after Liu et al., "ChunkKV: Semantic-Preserving KV Cache Compression for Efficient
    /// Long-Context LLM Inference", 2025, <https://arxiv.org/abs/2502.00299>
    "entropy_gated_chunkkv" Press EntropyGatedChunkKv wraps(press: Scorer) {
        /// Tokens of a chunk.
        chunk_length: usize = 10, Range::closed(2.0, 1e9);
        /// Tokens kept of an important but spiky chunk; fewer than `chunk_length`.
        low_entropy_chunk_length: usize = 4, Range::closed(1.0, 1e9);
    }
}

/// Keeps logarithms and quotients of zero finite.
const EPSILON: f64 = 1e-8;

/// A chunk of the context and what decides about it.
struct Chunk {
    tokens: std::ops::Range<usize>,
    /// How many of them are protected.
    guarded: usize,
    mean: f64,
    entropy: f64,
}

impl Chunk {
    fn guarded_share(&self) -> f64 {
        self.guarded as f64 / self.tokens.len() as f64
    }
}

impl EntropyGatedChunkKv {
    /// The press with these parameters.
    ///
    /// # Errors
    /// Bad parameters; `low_entropy_chunk_length` not less than `chunk_length`.
    pub fn new(params: &Params) -> Result<Self> {
        let press = Self::from_params(params)?;
        if press.low_entropy_chunk_length >= press.chunk_length {
            return Err(Error::input(format!(
                "low_entropy_chunk_length = {} leaves nothing out of chunks of chunk_length = {}: make it smaller",
                press.low_entropy_chunk_length, press.chunk_length
            )));
        }
        Ok(press)
    }

    /// The tokens of a sequence from most to least important.
    fn by_priority(&self, scores: &[f64], protected: &[bool]) -> Vec<usize> {
        let mut chunks = self.chunks(scores, protected);
        let mean = lower_median(chunks.iter().map(|chunk| chunk.mean));
        let entropy = lower_median(chunks.iter().map(|chunk| chunk.entropy));
        chunks.sort_by(|a, b| b.guarded_share().total_cmp(&a.guarded_share()).then(b.mean.total_cmp(&a.mean)));
        let best_first = |tokens: &mut Vec<usize>| {
            tokens.sort_by(|&a, &b| protected[b].cmp(&protected[a]).then(scores[b].total_cmp(&scores[a])));
        };
        let (mut order, mut given_up) = (Vec::with_capacity(scores.len()), Vec::new());
        for chunk in chunks {
            let mut tokens: Vec<usize> = chunk.tokens.collect();
            best_first(&mut tokens);
            if chunk.mean >= mean && chunk.entropy < entropy {
                let spikes = self.low_entropy_chunk_length.max(chunk.guarded).min(tokens.len());
                given_up.extend(tokens.split_off(spikes));
            }
            order.append(&mut tokens);
        }
        best_first(&mut given_up);
        order.append(&mut given_up);
        order
    }

    fn chunks(&self, scores: &[f64], protected: &[bool]) -> Vec<Chunk> {
        let length = self.chunk_length;
        let chunk = |(index, scores): (usize, &[f64])| {
            let tokens = index * length..index * length + scores.len();
            let guarded = protected[tokens.clone()].iter().filter(|&&guarded| guarded).count();
            let mean = scores.iter().sum::<f64>() / scores.len() as f64;
            Chunk { tokens, guarded, mean, entropy: entropy(scores) }
        };
        scores.chunks(length).enumerate().map(chunk).collect()
    }
}

impl Wrapper for EntropyGatedChunkKv {
    fn identity(&self, scorer: String) -> String {
        self.identity_around(&[scorer])
    }

    fn select(&self, scorer: &dyn Scorer, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        let tokens = view.tokens();
        if budget.keeps_all(tokens) {
            return Ok(Selection::all());
        }
        let TokenScores { scores, protected } = TokenScores::of(view, scorer, budget)?;
        let scores = Vec::<Vec<f64>>::try_from(scores.f_to_kind(Kind::Double)?)?;
        let protected = Vec::<Vec<bool>>::try_from(protected)?;
        let mut kept = Vec::new();
        for (scores, protected) in scores.iter().zip(&protected) {
            let order = self.by_priority(scores, protected).into_iter().map(|token| token as i64);
            kept.extend(order.take(budget.kept(tokens) as usize));
        }
        let kept = Tensor::f_from_slice(&kept)?.f_view([view.batch(), 1, -1])?.f_to_device(view.device())?;
        Selection::uniform(&kept.f_expand([-1, view.geometry().kv_heads, -1], false)?)
    }
}

/// How evenly the scores of a chunk are spread, 0 to 1; a single token is a spike.
fn entropy(scores: &[f64]) -> f64 {
    if scores.len() == 1 {
        return 0.0;
    }
    let lowest = scores.iter().copied().fold(0.0, f64::min);
    let sum = scores.iter().map(|score| score - lowest).sum::<f64>() + EPSILON;
    let terms = scores.iter().map(|score| (score - lowest) / sum).map(|p| p * (p + EPSILON).ln());
    (-terms.sum::<f64>() / (scores.len() as f64).ln()).clamp(0.0, 1.0)
}

/// The middle value, of two the lower.
fn lower_median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}
