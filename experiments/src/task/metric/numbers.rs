//! Metrics that read numbers out of predictions.

use super::words::spaced;

/// Runs of digits.
fn digits(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_digit()).filter(|run| !run.is_empty())
}

fn share(prediction: &str, answer: &str) -> f64 {
    let numbers: Vec<&str> = digits(prediction).collect();
    numbers.iter().filter(|number| **number == answer).count() as f64 / numbers.len().max(1) as f64
}

/// The share of the prediction's numbers that are the answer.
pub(super) fn count(prediction: &str, answer: &str) -> f64 {
    share(prediction, answer)
}

/// The share of the prediction's numbers that are the number of the answer's paragraph (`Paragraph 7`, `段落7`).
pub(super) fn retrieval(prediction: &str, answer: &str) -> f64 {
    let number = ["Paragraph ", "段落"].iter().find_map(|word| answer.split_once(word)?.1.split_whitespace().next());
    number.and_then(|number| digits(number).next()).map_or(0.0, |number| share(prediction, number))
}

/// The first run of digits, or nothing.
pub(super) fn first_digits(prediction: &str) -> &str {
    digits(prediction).next().unwrap_or_default()
}

/// Whether the last word is the whole number `answer`.
pub(super) fn last_integer(prediction: &str, answer: &str) -> bool {
    let bare = spaced(prediction, "\n.`'\":");
    let last = bare.split_whitespace().next_back().and_then(|word| word.parse::<i64>().ok());
    last.is_some() && last == answer.parse().ok()
}

/// Whether the first number is `answer`: of a whole answer, its whole part.
pub(super) fn first_number(prediction: &str, answer: &str) -> bool {
    let Some(start) = prediction.find(|letter: char| letter.is_ascii_digit()) else { return false };
    let rest = &prediction[start..];
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let fraction = rest[end..].strip_prefix('.').map(first_run).filter(|run| !run.is_empty());
    let number = &rest[..end + fraction.map_or(0, |run| run.len() + 1)];
    match (answer.parse::<i64>(), number.parse::<f64>()) {
        (Ok(whole), Ok(number)) => number.trunc() == whole as f64,
        (Err(_), Ok(number)) => answer.parse() == Ok(number),
        (_, Err(_)) => false,
    }
}

fn first_run(text: &str) -> &str {
    &text[..text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len())]
}

/// The share of the answers, whole numbers, that the runs of digits begin with.
pub(super) fn prefix(prediction: &str, answers: &[String]) -> f64 {
    let number = |text: &str| text.parse::<i128>().ok();
    let right = digits(prediction).zip(answers).take_while(|(found, due)| {
        let (found, due) = (number(found), number(due));
        found.is_some() && found == due
    });
    right.count() as f64 / answers.len().max(1) as f64
}
