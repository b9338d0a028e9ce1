//! Likelihoods after a compressed context beside those of the plain model, from the definition.

use pressroom::pipeline::likelihood;
use pressroom::press::Pipeline;
use proptest::prelude::*;
use tch::{Kind, Tensor};

use crate::pipeline::{pipeline, sessions, step_logits};
use crate::support::tiny;

/// Means over the rows of a `[tokens, vocabulary]` pair of log-probabilities: of the tokens that follow, of the
/// divergence, of the agreement.
fn naive(expected: &Tensor, found: &Tensor, next: &[i64]) -> [f64; 3] {
    let rows = |tensor: &Tensor| Vec::<Vec<f64>>::try_from(tensor.to_kind(Kind::Double)).unwrap();
    let likeliest = |row: &[f64]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
    let mut sums = [0.0; 3];
    for ((expected, found), next) in rows(expected).iter().zip(rows(found)).zip(next) {
        sums[0] -= found[*next as usize];
        sums[1] += expected.iter().zip(&found).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        sums[2] += f64::from(likeliest(expected) == likeliest(&found));
    }
    sums.map(|sum| sum / next.len() as f64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    // Longer than a slice of what is fed at a time.
    #[test]
    fn likelihoods_are_those_of_the_definition(
        context in proptest::collection::vec(0i64..64, 24),
        continuation in proptest::collection::vec(0i64..64, 2..150),
    ) {
        let model = tiny();
        let contexts = sessions(&model, &context, vec![Pipeline::default(), pipeline("knorm", 0.5), pipeline("adakv-knorm", 0.7)]);
        let before: Vec<_> = contexts.iter().map(|context| context.cache.lengths()).collect();
        let all: Vec<_> = contexts.iter().collect();
        let found = likelihood(&model, &contexts[0], &all, &continuation).unwrap();
        let found = found.into_iter().collect::<pressroom::Result<Vec<_>>>().unwrap();
        let fed = &continuation[..continuation.len() - 1];
        let logits = |index: usize| step_logits(&model, &contexts[index].cache, fed).log_softmax(-1, Kind::Float);
        for (index, found) in found.iter().enumerate() {
            let expected = naive(&logits(0), &logits(index), &continuation[1..]);
            prop_assert!((found.nll - expected[0]).abs() < 1e-4, "{:?} {:?}", found, expected);
            prop_assert!((found.kl - expected[1]).abs() < 1e-4, "{:?} {:?}", found, expected);
            prop_assert!((found.agreement - expected[2]).abs() < 1e-9, "{:?} {:?}", found, expected);
        }
        prop_assert_eq!((found[0].kl, found[0].agreement), (0.0, 1.0));
        prop_assert!(found[1].kl > 0.0 && found[2].kl > 0.0);
        let after: Vec<_> = contexts.iter().map(|context| context.cache.lengths()).collect();
        prop_assert_eq!(before, after);
    }
}

#[test]
fn one_token_predicts_nothing() {
    let model = tiny();
    let context = sessions(&model, &[1, 2, 3], vec![Pipeline::default()]).remove(0);
    for continuation in [&[][..], &[5]] {
        let error = likelihood(&model, &context, &[&context], continuation).unwrap_err().to_string();
        assert!(error.contains("needs two tokens"), "{error}");
    }
}
