//! Scores of predictions.

/// Fraction of the reference strings that the prediction contains, ignoring case: RULER's string match.
pub fn string_match(prediction: &str, references: &[String]) -> f64 {
    if references.is_empty() {
        return 0.0;
    }
    let prediction = prediction.to_lowercase();
    let found = references.iter().filter(|reference| prediction.contains(&reference.to_lowercase())).count();
    found as f64 / references.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_found_counts_whatever_the_case() {
        let references = ["Lisbon".to_owned(), "42".to_owned()];
        assert_eq!(string_match("It is LISBON.", &references), 0.5);
        assert_eq!(string_match("42, lisbon", &references), 1.0);
        assert_eq!(string_match("", &references), 0.0);
        assert_eq!(string_match("anything", &[]), 0.0);
    }
}
