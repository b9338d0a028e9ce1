//! How fine a difference a number of samples can show.

use statrs::distribution::{ContinuousCDF, Normal};

use super::{ALPHA, AT_EACH_END};

/// Chance with which a difference of the size told is found.
const POWER: f64 = 0.8;

/// The smallest true difference that a paired comparison finds four times in five, when `comparisons` are read
/// together: `(z_α + z_β) σ / √n`, with the spread of these differences, but no less than the fewest samples make that
/// the sign-flip test can tell from chance when all of them change in one direction. Above 1, and infinite for no
/// sample, nothing can be resolved.
pub fn smallest_difference(differences: &[f64], comparisons: usize) -> f64 {
    if differences.is_empty() {
        return f64::INFINITY;
    }
    let count = differences.len() as f64;
    let level = ALPHA / comparisons.max(1) as f64;
    let mean = differences.iter().sum::<f64>() / count;
    // As in the interval: without them equal answers would promise perfect resolution.
    let granted = 2.0 * AT_EACH_END;
    let squares = differences.iter().map(|difference| (difference - mean).powi(2)).sum::<f64>() + granted;
    let quantile = |p: f64| Normal::standard().inverse_cdf(p);
    let reach = quantile(1.0 - level / 2.0) + quantile(POWER);
    // Of n changes that all go one way the test's p-value is 2 / 2^n.
    let fewest = (2.0 / level).log2().ceil();
    (reach * (squares / (count + granted)).sqrt() / count.sqrt()).max(fewest / count)
}
