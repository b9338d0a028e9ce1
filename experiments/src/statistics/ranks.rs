//! Ranks that say no more than the samples do.

use super::{ALPHA, holm, sign_flip};

/// The rank of each press: one more than the number of presses that are better beyond chance, so that presses whose
/// difference is not resolved share one. `scores[press][sample]`, the same samples in every row; all pairs are compared
/// and accounted for.
pub fn shared_ranks(scores: &[Vec<f64>], seed: u64) -> Vec<usize> {
    let pairs: Vec<(usize, usize)> =
        (0..scores.len()).flat_map(|a| (a + 1..scores.len()).map(move |b| (a, b))).collect();
    let differences: Vec<Vec<f64>> =
        pairs.iter().map(|&(a, b)| scores[a].iter().zip(&scores[b]).map(|(a, b)| a - b).collect()).collect();
    let tested: Vec<f64> = differences.iter().map(|differences| sign_flip(differences, seed)).collect();
    let mut ranks = vec![1; scores.len()];
    for ((&(a, b), differences), p) in pairs.iter().zip(&differences).zip(holm(&tested)) {
        if p <= ALPHA {
            let worse = if differences.iter().sum::<f64>() > 0.0 { b } else { a };
            ranks[worse] += 1;
        }
    }
    ranks
}
