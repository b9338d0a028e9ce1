//! `leverage_score`: keys that no others could stand in for.

use pressroom::error::During;
use pressroom::press::{Budget, Needs, Range, Scorer};
use pressroom::{Result, random, view::LayerView};
use tch::{Kind, Tensor};

use crate::algebra::{leverage, z_scores};

/// Added to the diagonal of the sketched Gram matrix.
const JITTER: f64 = 1e-2;

pressroom::press! {
    /// Keeps the keys with the highest leverage among all keys.
    ///
    /// # Idea
    /// The leverage of a key says how much of it the other keys cannot express: outliers have much, repeated patterns
    /// little. Keys are taken before rotary embedding, centred over the tokens, and sketched by a random Gaussian
    /// matrix, so that the Gram matrix is small; its Cholesky factor gives the leverages without inverting it.
    ///
    /// # Formula
    /// `score = z(diag(X (X^T X + 0.01 I)^-1 X^T))`, `X = (K - mean K) P`, `P ~ N(0, 1 / sketch_dimension)`, `z` over all
    /// heads and tokens of the layer
    ///
    /// # Paper
    /// Chari and Van Durme, "Compactor: Calibrated Query-Agnostic KV Cache Compression with Approximate Leverage
    /// Scores", 2025, <https://arxiv.org/abs/2507.08143>
    "leverage_score" Scorer LeverageScore {
        /// Columns of the sketch.
        sketch_dimension: usize = 48, Range::closed(1.0, 1e5);
        /// Seed of the sketch, the same in every layer. Absent: derived from the run's seed and the layer.
        seed: Option<u64> = None, Range::closed(0.0, 9_007_199_254_740_992.0);
    }
}

impl Scorer for LeverageScore {
    fn identity(&self) -> String {
        self.identity()
    }

    fn needs(&self) -> Needs {
        Needs::KEYS_AND_VALUES
    }

    fn score(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Tensor> {
        let (kv_heads, width) = (view.geometry().kv_heads, view.geometry().head_dim);
        let columns = self.sketch_dimension as i64;
        // One sketch for all sequences: a batch scores as its sequences do one by one.
        let seed = self.seed.unwrap_or_else(|| view.seed());
        let sketch = random::normal(seed, &[1, kv_heads, width, columns], view.device())?
            .f_mul_scalar(1.0 / (columns as f64).sqrt())?;
        let keys = view.unrotated_keys()?;
        let centered = keys.f_sub(&keys.f_mean_dim([2i64].as_slice(), true, Kind::Float)?)?;
        let rows = centered.f_matmul(&sketch).during("sketching keys", &[&centered, &sketch])?;
        let gram = rows.f_transpose(2, 3)?.f_matmul(&rows)?;
        z_scores(&leverage(&rows, &gram, JITTER)?)
    }
}
