//! The promises of the statistics, on simulated runs.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Uniform};

use super::*;

/// Simulated runs behind every promise.
const RUNS: u64 = 1000;

/// Draws the answers of simulated presses.
struct Simulation(ChaCha8Rng);

impl Simulation {
    fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    fn happens(&mut self, chance: f64) -> bool {
        Uniform::new(0.0, 1.0).unwrap().sample(&mut self.0) < chance
    }

    /// Scores of a press that is right with a chance of `accuracy`, in each of `parts` of an answer.
    fn scores(&mut self, accuracy: f64, parts: usize, samples: usize) -> Vec<f64> {
        let mut score = || (0..parts).filter(|_| self.happens(accuracy)).count() as f64 / parts as f64;
        (0..samples).map(|_| score()).collect()
    }

    /// Differences to a baseline of some accuracy of a press that loses and gains some of its answers.
    fn differences(&mut self, accuracy: f64, lost: f64, gained: f64, samples: usize) -> Vec<f64> {
        let mut difference = || match self.happens(accuracy) {
            true => -f64::from(self.happens(lost)),
            false => f64::from(self.happens(gained)),
        };
        (0..samples).map(|_| difference()).collect()
    }
}

/// Checks that 93 to 97 % of 1,000 intervals hold the truth.
fn covers(what: &str, truth: f64, mut interval: impl FnMut(u64) -> Estimate) {
    let held = (0..RUNS).map(&mut interval).filter(|found| found.low <= truth && truth <= found.high).count();
    assert!((930..=970).contains(&held), "{what}: {held} of {RUNS} intervals hold {truth}");
}

#[test]
fn intervals_of_means_cover() {
    let mut runs = Simulation::new(1);
    for (accuracy, parts, samples) in [
        (0.5, 1, 50),
        (0.6, 1, 20),
        (0.7, 1, 100),
        (0.8, 1, 200),
        (0.9, 1, 50),
        (0.9, 1, 100),
        (0.9, 1, 500),
        (0.95, 1, 50),
        (0.95, 1, 100),
        (0.95, 1, 200),
        (0.9, 4, 100),
        (0.95, 4, 50),
        (0.7, 3, 30),
    ] {
        let what = format!("accuracy {accuracy} in {parts} parts of {samples} samples");
        covers(&what, accuracy, |run| mean(&runs.scores(accuracy, parts, samples), run).unwrap());
    }
}

#[test]
fn intervals_of_paired_differences_cover() {
    let mut runs = Simulation::new(2);
    for (accuracy, lost, gained, samples) in [
        (0.7, 0.3, 0.1, 50),
        (0.7, 0.3, 0.1, 200),
        (0.7, 0.1, 0.1, 100),
        (0.7, 0.5, 0.2, 100),
        (0.7, 0.1, 0.05, 500),
        // Presses that agree only by chance, of accuracy 0.90 and 0.95.
        (0.9, 0.05, 0.95, 50),
        (0.95, 0.1, 0.9, 50),
        (0.9, 0.3, 0.0, 100),
        (0.95, 0.1, 0.1, 200),
    ] {
        let what = format!("of {accuracy} {lost} lost, {gained} gained of {samples} samples");
        let truth = (1.0 - accuracy) * gained - accuracy * lost;
        covers(&what, truth, |run| difference(&runs.differences(accuracy, lost, gained, samples), run).unwrap());
    }
}

#[test]
fn a_saturated_sample_is_no_certainty() {
    let all_right = mean(&[1.0; 20], 0).unwrap();
    assert!(all_right.high == 1.0 && (0.8..0.92).contains(&all_right.low), "{all_right:?}");
    let same = difference(&[0.0; 20], 0).unwrap();
    assert!(same.low < -0.02 && same.high > 0.02, "{same:?}");
    assert_eq!(mean(&[], 0), None);
}

#[test]
fn the_same_scores_give_the_same_interval() {
    let scores = Simulation::new(3).scores(0.4, 5, 60);
    assert_eq!(mean(&scores, 7), mean(&scores, 7));
    assert_ne!(mean(&scores, 7), mean(&scores, 8));
}

fn between(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

#[test]
fn a_press_does_not_differ_from_itself() {
    let mut runs = Simulation::new(4);
    let mut false_differences = [0; 3];
    for run in 0..RUNS {
        let rerun = runs.scores(0.7, 1, 50);
        assert_eq!(sign_flip(&between(&rerun, &rerun), run), 1.0);
        // Independent reruns of one press, whose answers differ by chance.
        for (parts, found) in [1, 4].into_iter().zip(&mut false_differences) {
            let (a, b) = (runs.scores(0.7, parts, 50), runs.scores(0.7, parts, 50));
            *found += usize::from(sign_flip(&between(&a, &b), run) <= ALPHA);
        }
        // Equal presses whose answers agree on most samples.
        let related = runs.differences(0.7, 0.3, 0.7, 50);
        false_differences[2] += usize::from(sign_flip(&related, run) <= ALPHA);
    }
    assert!(false_differences.iter().all(|found| (1..=50).contains(found)), "{false_differences:?} of {RUNS}");
}

#[test]
fn equal_presses_share_a_rank_and_a_worse_one_does_not() {
    let mut runs = Simulation::new(5);
    let mut split = 0;
    for run in 0..200 {
        let equal: Vec<Vec<f64>> = (0..8).map(|_| runs.scores(0.6, 1, 60)).collect();
        split += usize::from(shared_ranks(&equal, run).iter().any(|rank| *rank > 1));
    }
    // Over all 28 pairs of a table together.
    assert!(split <= 10, "{split} of 200 tables split equal presses");
    let scores = [runs.scores(0.95, 1, 100), runs.scores(0.95, 1, 100), runs.scores(0.3, 1, 100)];
    assert_eq!(shared_ranks(&scores, 0), [1, 1, 3]);
    assert_eq!(shared_ranks(&[vec![], vec![]], 0), [1, 1]);
}

#[test]
fn many_comparisons_raise_p_values() {
    let close = |found: Vec<f64>, due: &[f64]| found.iter().zip(due).all(|(found, due)| (found - due).abs() < 1e-12);
    assert!(close(holm(&[0.04, 0.01, 0.03]), &[0.06, 0.03, 0.06]));
    assert!(close(holm(&[0.9, 0.8]), &[1.0, 1.0]));
}

#[test]
fn the_sign_test_is_exact() {
    // 1 of 8 signs: 2 (1 + 8) / 256.
    let differences = [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0];
    assert!((sign_flip(&differences, 0) - 18.0 / 256.0).abs() < 1e-12);
    // Drawn instead of counted, where sizes differ: all 2^10 signs, 2 of them as extreme.
    let drawn = sign_flip(&[0.5, 0.4, 0.3, 0.5, 0.6, 0.5, 0.4, 0.3, 0.5, 0.6], 1);
    assert!((0.0005..0.004).contains(&drawn), "{drawn}");
}

#[test]
fn the_smallest_difference_is_found_four_times_in_five() {
    let mut runs = Simulation::new(6);
    let (lost, samples) = (0.2, 100);
    let (mut found, mut told) = (0, 0.0);
    for run in 0..RUNS {
        let differences = runs.differences(0.7, lost, 0.0, samples);
        told += smallest_difference(&differences, 1) / RUNS as f64;
        found += usize::from(sign_flip(&differences, run) <= ALPHA);
    }
    // The true difference is 0.14; what is told as the smallest is found with a chance of 0.8, so this one more often.
    assert!((0.09..0.12).contains(&told) && found > 800, "{told}, found {found} of {RUNS} times");
    assert!(smallest_difference(&[0.0; 100], 1) > 0.0 && smallest_difference(&[], 1).is_infinite());
    assert!(smallest_difference(&[0.0, 1.0], 20) > smallest_difference(&[0.0, 1.0], 1));
    // Six samples that are all lost are told from chance alone, but not among 84 comparisons.
    let lost = [-1.0; 6];
    assert!(smallest_difference(&lost, 1) <= 1.0 && sign_flip(&lost, 0) <= ALPHA);
    assert!(smallest_difference(&lost, 84) > 1.0 && holm(&[sign_flip(&lost, 0)].repeat(84))[0] > ALPHA);
}
