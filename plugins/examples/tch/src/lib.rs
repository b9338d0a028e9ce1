//! `hash_evict`: a press as a plugin that computes with libtorch, on the host's memory.
// Not `forbid`: ndarray's `s!` allows what it needs.
#![deny(unsafe_code)]

use pressroom_plugin::{Needs, Result, Scorer, Scores, Span, View, torch};
use tch::{Kind, Tensor};

/// Keeps the keys whose hash is close to those of the last queries.
///
/// # Idea
/// The signs of a few random projections are a hash that keeps angles: the hashes of two vectors differ in a share of
/// their bits that is about the angle between them over pi. A key far from the queries gets little attention, and the
/// hash tells so before any attention is computed. The paper compares with the query of each token as it comes; here
/// the queries of a window at the end of the context vote together, over the query group. The window is always kept.
///
/// # Formula
/// `score = -mean over window queries q of hamming(sign(R q), sign(R k))`, with `R ~ N(0, 1)` of `[bits, head_dim]`
///
/// # Paper
/// Liu et al., "HashEvict: A Pre-Attention KV Cache Eviction Strategy using Locality-Sensitive Hashing", 2024,
/// <https://arxiv.org/abs/2412.16187>
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct HashEvict {
    /// Length of a hash.
    #[schemars(range(min = 1, max = 4096), extend("unit" = "bits"))]
    bits: usize,
    /// Tokens at the end of the context whose queries vote.
    #[schemars(range(min = 1, max = 1_000_000_000), extend("unit" = "tokens"))]
    window_size: usize,
}

impl Default for HashEvict {
    fn default() -> Self {
        Self { bits: 64, window_size: 16 }
    }
}

impl Scorer for HashEvict {
    const NAME: &'static str = "hash_evict";

    fn needs(&self) -> Needs {
        Needs { values: false, rotated_queries: Span::Last(self.window_size), on_device: true, ..Needs::default() }
    }

    fn score(&self, view: &View<'_>, scores: &mut Scores<'_>) -> Result {
        let (tokens, window) = (view.context_tokens(), self.window_size);
        if tokens <= window {
            return Err(format!(
                "the context has {tokens} tokens and window_size = {window} of them are always kept; use a longer \
                 context or a smaller window_size"
            )
            .into());
        }
        let keys = view.keys().tch()?;
        let projection = self.projection(view.seed(), view.head_dim())?.f_to_device(keys.device())?;
        let keys = hashes(&keys, &projection)?;
        let queries = hashes(&*view.rotated_queries()?.tch()?, &projection)?;
        // As many queries as there are: while decoding, those of the last tokens only.
        let group = [view.batch() as i64, view.kv_heads() as i64, -1, self.bits as i64];
        let votes = queries.f_reshape(group)?.f_mean_dim(2, true, Kind::Float)?;
        // Of two hashes of signs, the product is the number of equal bits less that of different ones.
        let equal = keys.f_matmul(&votes.f_transpose(2, 3)?)?.f_squeeze_dim(3)?;
        let distances = equal.f_sub_scalar(self.bits as f64)?.f_div_scalar(2.0)?;
        let in_window = view.position_tensor().tch()?.f_ge(view.context_end() - window as i64)?;
        torch::write(scores, &distances.f_masked_fill(&in_window, f64::INFINITY)?)
    }
}

impl HashEvict {
    /// Normal numbers that depend on the seed alone, `[head_dim, bits]`.
    fn projection(&self, seed: u64, head_dim: usize) -> Result<Tensor> {
        let mut state = seed;
        // SplitMix64 (Steele et al., 2014).
        let mut uniform = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut bits = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        };
        // Box and Muller, 1958.
        let normal = |_| ((-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32;
        let numbers: Vec<f32> = (0..head_dim * self.bits).map(normal).collect();
        Ok(Tensor::f_from_slice(&numbers)?.f_reshape([head_dim as i64, self.bits as i64])?)
    }
}

/// The signs of `vectors`, `[.., head_dim]`, as projected: `[.., bits]`.
fn hashes(vectors: &Tensor, projection: &Tensor) -> Result<Tensor> {
    Ok(vectors.f_to_kind(Kind::Float)?.f_matmul(projection)?.f_sign()?)
}

pressroom_plugin::export!(scorers: [HashEvict]);

#[cfg(test)]
mod tests {
    use pressroom_plugin::ndarray::s;
    use pressroom_plugin::testing::Layer;

    use super::*;

    #[test]
    fn a_key_along_the_queries_scores_best_and_one_against_them_worst() {
        let mut layer = Layer::random(40, 3);
        // The two query heads of KV head 0 ask the same.
        let query = layer.queries.slice(s![0, 0, 39, ..]).to_owned();
        layer.queries.slice_mut(s![0, 1, 39, ..]).assign(&query);
        layer.keys.slice_mut(s![0, 0, 7, ..]).assign(&(3.0 * &query));
        layer.keys.slice_mut(s![0, 0, 8, ..]).assign(&-query);
        let scores = layer.score(&HashEvict { bits: 64, window_size: 1 }).unwrap();
        let before = || (0..39).map(|token| scores[[0, 0, token]]);
        assert_eq!(before().fold(f32::MIN, f32::max), scores[[0, 0, 7]]);
        assert_eq!((scores[[0, 0, 7]], scores[[0, 0, 8]], scores[[0, 0, 39]]), (0.0, -64.0, f32::INFINITY));
        assert_eq!(before().fold(f32::MAX, f32::min), -64.0);
    }

    #[test]
    fn the_tensor_is_the_layer_where_it_lies() {
        let layer = Layer::random(12, 1);
        layer
            .view(|view| {
                let keys = view.keys().tch()?;
                assert_eq!(keys.data_ptr().cast_const().cast(), layer.keys.as_ptr());
                assert_eq!((keys.size(), keys.kind()), (vec![1, 2, 12, 8], Kind::Float));
                assert_eq!(view.positions().as_ptr(), layer.positions.as_ptr());
                Ok(())
            })
            .unwrap();
    }
}
