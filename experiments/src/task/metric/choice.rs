//! Metrics for questions with options or classes.

use std::sync::LazyLock;

use regex::Regex;

use super::words::{same, spaced};

/// A pattern that is known to be one; nothing matches what is none.
fn pattern(text: &str) -> Option<Regex> {
    Regex::new(text).ok()
}

/// LongBench's score of a class: one over the classes that the prediction names, if the right one is among them. Of the
/// named classes that are part of the right one's name, LongBench drops the first, third, ... in a row: its loop
/// removes from the list that it walks.
pub(super) fn class(prediction: &str, answer: &str, classes: &[String]) -> f64 {
    let mut named: Vec<&str> = classes.iter().map(String::as_str).filter(|class| prediction.contains(class)).collect();
    let mut at = 0;
    while at < named.len() {
        if named[at] != answer && answer.contains(named[at]) {
            named.remove(at);
        }
        at += 1;
    }
    if named.contains(&answer) { 1.0 / named.len() as f64 } else { 0.0 }
}

/// The letter that LongBench v2 reads out of a response.
pub(super) fn stated(prediction: &str) -> Option<String> {
    static STATED: LazyLock<[Option<Regex>; 2]> =
        LazyLock::new(|| [r"The correct answer is \(([A-D])\)", "The correct answer is ([A-D])"].map(pattern));
    let bare = prediction.replace('*', "");
    STATED.iter().flatten().find_map(|stated| Some(stated.captures(&bare)?[1].to_owned()))
}

/// Whether a line is the answer's letter and nothing else, or the sentence that LongBench v2 asks for.
pub(super) fn only(line: &str, answer: &str) -> bool {
    same(line.trim_start_matches("The correct answer is"), answer)
}

/// Whether the first of A to D that stands alone is the same in both.
pub(super) fn same_letter(prediction: &str, answer: &str) -> bool {
    static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| pattern(r"\b[A-D]\b"));
    let first = |text| Some(LETTER.as_ref()?.find(text)?.as_str().to_owned());
    first(prediction).is_some_and(|letter: String| first(answer) == Some(letter))
}

/// What follows the first of `openings` in `text`, one character later; the inner `None` where nothing follows.
fn after<'t>(text: &'t str, openings: &[&str]) -> Option<Option<&'t str>> {
    let (at, opening) = openings.iter().find_map(|opening| Some((text.find(opening)?, opening)))?;
    let mut rest = text[at + opening.len()..].chars();
    rest.next();
    Some(Some(rest.as_str()).filter(|_| text.len() > at + opening.len()))
}

fn single_spaces(text: &str) -> String {
    let mut text = text.to_owned();
    while text.contains("  ") {
        text = text.replace("  ", " ");
    }
    text
}

/// InfiniteBench's reading of an option, with SCBench's repairs: the first letter, the option's text, what follows an
/// opening such as `answer is`, or else the first letter that stands alone.
pub(super) fn option_or_text(prediction: &str, answers: &[String]) -> bool {
    let prediction = prediction.trim();
    let right = |text: &str| answers.iter().any(|answer| answer == text);
    let Some(first) = prediction.get(..1) else { return false };
    if "ABCD".contains(first) {
        return right(first);
    }
    if right(prediction) {
        return true;
    }
    let bare = single_spaces(&spaced(prediction, "\n\"'.,?!{}"));
    match after(&bare, &["answer is:", "answer:", "answer is", "option is"]) {
        Some(rest) => rest.is_some_and(|rest| answers.iter().any(|answer| rest.starts_with(answer.as_str()))),
        None => bare.split_whitespace().find(|word| "ABCD".contains(word)).is_some_and(right),
    }
}

/// InfiniteBench's reading of which function is at fault: answers are its name and its letter.
pub(super) fn faulty_function(prediction: &str, answers: &[String]) -> bool {
    let [name, letter] = answers else { return false };
    let prediction = prediction.trim();
    if prediction.starts_with(&format!("{letter}.")) || prediction.starts_with(&format!("{letter}:")) {
        return true;
    }
    let bare = spaced(prediction, "\n`'\"-*").replace("Option", " ").replace("option", " ");
    let rest = after(&single_spaces(&bare), &["answer is:", "is:", "answer:"]).flatten().map(str::to_owned);
    rest.is_some_and(|rest| rest.starts_with(letter.as_str()) || rest.starts_with(name.as_str()))
}
