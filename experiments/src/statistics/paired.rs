//! Whether two presses differ on the same samples.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use statrs::distribution::{Binomial, DiscreteCDF};

/// Sign vectors drawn at most, where not all are counted.
const MOST_DRAWS: usize = 20_000;
/// Sign vectors as extreme as the observed one after which more would change nothing (Besag and Clifford, 1991).
const ENOUGH_EXTREME: usize = 50;

/// The two-sided p-value of a sign-flip test: how often differences as far from zero would come about if each had
/// either sign equally often, which holds if two presses are equally good. It needs no distribution and is exact for
/// differences of one size (then it is McNemar's test); others are drawn, seeded, until the answer is clear.
pub fn sign_flip(differences: &[f64], seed: u64) -> f64 {
    let moved: Vec<f64> = differences.iter().copied().filter(|difference| difference.abs() > 1e-12).collect();
    let Some(first) = moved.first() else { return 1.0 };
    if moved.iter().all(|difference| (difference.abs() - first.abs()).abs() < 1e-12) {
        return exact(moved.len() as u64, moved.iter().filter(|difference| **difference > 0.0).count() as u64);
    }
    // A little less than observed, so that rounding does not hide a tie.
    let observed = moved.iter().sum::<f64>().abs() * (1.0 - 1e-9);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut extreme = 0;
    for drawn in 1..=MOST_DRAWS {
        let sum: f64 =
            moved.iter().map(|difference| if random.next_u32() & 1 == 0 { *difference } else { -difference }).sum();
        extreme += usize::from(sum.abs() >= observed);
        if extreme == ENOUGH_EXTREME {
            return extreme as f64 / drawn as f64;
        }
    }
    (extreme + 1) as f64 / (MOST_DRAWS + 1) as f64
}

/// The two-sided p-value of `positive` of `all` signs.
fn exact(all: u64, positive: u64) -> f64 {
    let rarer = positive.min(all - positive);
    // A fair coin is a valid distribution; without one nothing would be resolved.
    Binomial::new(0.5, all).map_or(1.0, |coin| (2.0 * coin.cdf(rarer)).min(1.0))
}
