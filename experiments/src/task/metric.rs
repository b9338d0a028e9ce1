//! How predictions are scored.

use serde::{Deserialize, Serialize};

/// What decides how right a prediction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// RULER's: the fraction of the answers that the prediction contains, ignoring case.
    StringMatch,
}

impl Metric {
    /// The score of a prediction, between 0 and 1; 0 where there is no answer to be right.
    pub fn score(self, prediction: &str, answers: &[String]) -> f64 {
        match self {
            Self::StringMatch => string_match(prediction, answers),
        }
    }
}

fn string_match(prediction: &str, answers: &[String]) -> f64 {
    if answers.is_empty() {
        return 0.0;
    }
    let prediction = prediction.to_lowercase();
    let found = answers.iter().filter(|answer| prediction.contains(&answer.to_lowercase())).count();
    found as f64 / answers.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_found_counts_whatever_the_case() {
        let answers = ["Lisbon".to_owned(), "42".to_owned()];
        let score = |prediction| Metric::StringMatch.score(prediction, &answers);
        assert_eq!(score("It is LISBON."), 0.5);
        assert_eq!(score("42, lisbon"), 1.0);
        assert_eq!(score(""), 0.0);
        assert_eq!(Metric::StringMatch.score("anything", &[]), 0.0);
    }
}
