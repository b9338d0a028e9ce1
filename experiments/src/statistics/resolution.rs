//! How fine a difference a number of samples can show.

use statrs::distribution::{ContinuousCDF, Normal};

use super::ALPHA;

/// Chance with which a difference of the size told is found.
const POWER: f64 = 0.8;

/// The smallest true difference that a paired comparison finds four times in five, when `comparisons` are read
/// together: `(z_α + z_β) σ / √n`, with the spread of these differences. It is at least what one sample that differs
/// would make; infinite for no sample.
pub fn smallest_difference(differences: &[f64], comparisons: usize) -> f64 {
    let count = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / count;
    // The pseudo-observations of the interval: without them equal answers would promise perfect resolution.
    let squares: f64 = differences.iter().map(|difference| (difference - mean).powi(2)).sum::<f64>() + 1.0;
    let quantile = |p: f64| Normal::standard().inverse_cdf(p);
    let reach = quantile(1.0 - ALPHA / (2.0 * comparisons.max(1) as f64)) + quantile(POWER);
    if differences.is_empty() { f64::INFINITY } else { reach * (squares / (count + 2.0)).sqrt() / count.sqrt() }
}
