//! Metrics of answers with several parts.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

/// The share of the masks of `answer`, a JSON object, that `prediction` fills the same. A prediction is an object
/// too, in JSON's or Python's quotes.
pub(super) fn cloze(prediction: &str, answer: &str) -> f64 {
    static ENTRY: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r#"(?:'([^']*)'|"([^"]*)")\s*:\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")"#).ok()
    });
    let Ok(due) = serde_json::from_str::<HashMap<String, String>>(answer) else { return 0.0 };
    let prediction = prediction.trim();
    let whole = prediction.starts_with('{') && prediction.ends_with('}');
    let Some(entry) = ENTRY.as_ref().filter(|_| whole && !due.is_empty()) else { return 0.0 };
    let mut filled = HashMap::new();
    for found in entry.captures_iter(prediction) {
        let part = |one, other| found.get(one).or_else(|| found.get(other)).map(|part| part.as_str());
        if let (Some(mask), Some(value)) = (part(1, 2), part(3, 4)) {
            filled.insert(mask, value.replace("\\'", "'").replace("\\\"", "\""));
        }
    }
    due.iter().filter(|(mask, value)| filled.get(mask.as_str()) == Some(value)).count() as f64 / due.len() as f64
}

/// Halves with every ten percent between prediction and answer; nothing where the prediction has no percentage.
pub(super) fn percentage(prediction: &str, answer: &str) -> f64 {
    static PERCENT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(\d+\.?\d*)%").ok());
    let read = |text: &str| PERCENT.as_ref()?.captures(text)?[1].parse::<f64>().ok();
    match (read(prediction), read(answer)) {
        (Some(prediction), Some(answer)) => 0.5f64.powf((prediction - answer).abs() / 10.0),
        _ => 0.0,
    }
}

/// The share of the pairs of `answer`, an order of numbers, that `prediction` has in the same order.
pub(super) fn order(prediction: &str, answer: &str) -> f64 {
    let numbers = |text: &str| -> Vec<u64> {
        text.split(|letter: char| !letter.is_ascii_digit()).filter_map(|run| run.parse().ok()).collect()
    };
    let (found, due) = (numbers(prediction), numbers(answer));
    let places: HashMap<u64, usize> = found.iter().enumerate().map(|(at, number)| (*number, at)).collect();
    let ranks: Option<Vec<usize>> = due.iter().map(|number| places.get(number).copied()).collect();
    let Some(ranks) = ranks.filter(|ranks| ranks.len() > 1 && found.len() == due.len() && places.len() == due.len())
    else {
        return 0.0;
    };
    let pairs = ranks.len() * (ranks.len() - 1) / 2;
    let right: usize =
        ranks.iter().enumerate().map(|(at, rank)| ranks[at + 1..].iter().filter(|later| *later > rank).count()).sum();
    right as f64 / pairs as f64
}
