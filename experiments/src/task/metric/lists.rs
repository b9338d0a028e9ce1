//! Metrics of answers with several parts.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use crate::python;

/// The share of the masks of `answer`, a JSON object, that `prediction` fills the same. A prediction is an object too, as
/// Python writes it.
pub(super) fn cloze(prediction: &str, answer: &str) -> f64 {
    let (Some(Value::Object(filled)), Ok(due)) =
        (python::parse(prediction), serde_json::from_str::<Map<String, Value>>(answer))
    else {
        return 0.0;
    };
    let right = due.iter().filter(|(mask, value)| filled.get(*mask) == Some(*value)).count();
    right as f64 / due.len().max(1) as f64
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

/// The share of the pairs of `answer`, an order of numbers, that `prediction` has in the same order. Numbers stand
/// between spaces and commas; whatever else is in them is left out.
pub(super) fn order(prediction: &str, answer: &str) -> f64 {
    let numbers = |text: &str| -> Vec<u64> {
        let runs = text.split(|letter: char| letter == ',' || letter.is_whitespace());
        let digits = runs.map(|run| run.chars().filter(char::is_ascii_digit).collect::<String>());
        digits.filter_map(|run| run.parse().ok()).collect()
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
