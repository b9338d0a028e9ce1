//! ROUGE, as the two Python packages that benchmarks use compute it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use super::words::chinese;

/// Recall and F of one comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rouge {
    pub(super) recall: f64,
    pub(super) f: f64,
}

/// ROUGE-L of whole texts as the package `rouge` has it: sentences end at full stops, and the words of the union of
/// longest common subsequences are counted once each.
pub(super) fn summary(prediction: &str, answer: &str) -> Rouge {
    let (prediction, answer) = (sentences(prediction), sentences(answer));
    let distinct = |sentences: &[Vec<&str>]| sentences.iter().flatten().copied().collect::<HashSet<_>>().len();
    let mut union: HashSet<&str> = HashSet::new();
    for due in &answer {
        for found in &prediction {
            union.extend(common(due, found, true).into_iter().map(|at| due[at]));
        }
    }
    if prediction.is_empty() || answer.is_empty() {
        return Rouge::default();
    }
    let shared = union.len() as f64;
    let (recall, precision) = (shared / distinct(&answer) as f64, shared / distinct(&prediction) as f64);
    // The package adds the small number to the divisor instead of asking whether it is zero.
    Rouge { recall, f: 2.0 * precision * recall / (precision + recall + 1e-8) }
}

/// [`summary`] of the words of Chinese texts.
pub(super) fn summary_zh(prediction: &str, answer: &str) -> Rouge {
    summary(&chinese(prediction).join(" "), &chinese(answer).join(" "))
}

/// `rougeLsum` of `rouge-score`, F: sentences are lines, and a word counts as often as both texts have it.
pub(super) fn lines(prediction: &str, answer: &str) -> f64 {
    let cut = |text: &str| text.split('\n').filter(|line| !line.is_empty()).map(tokens).collect::<Vec<_>>();
    let (prediction, answer) = (cut(prediction), cut(answer));
    let (mut due, mut left) = (counts(answer.iter().flatten()), counts(prediction.iter().flatten()));
    let mut hits = 0;
    for line in &answer {
        let union: BTreeSet<usize> = prediction.iter().flat_map(|found| common(line, found, false)).collect();
        for word in union.into_iter().map(|at| &line[at]) {
            let (Some(due), Some(left)) = (due.get_mut(word), left.get_mut(word)) else { continue };
            if *due > 0 && *left > 0 {
                *due -= 1;
                *left -= 1;
                hits += 1;
            }
        }
    }
    let words = |lines: &[Vec<String>]| lines.iter().map(Vec::len).sum::<usize>();
    f(hits, words(&prediction), words(&answer))
}

/// Geometric mean of the F of ROUGE-1, ROUGE-2 and ROUGE-L of `rouge-score`, each of the answer that is best in it.
pub(super) fn geometric_mean(prediction: &str, answers: &[String]) -> f64 {
    let prediction = tokens(prediction);
    let kinds = answers.iter().map(|answer| {
        let answer = tokens(answer);
        let longest = common(&answer, &prediction, false).len();
        [grams(&prediction, &answer, 1), grams(&prediction, &answer, 2), f(longest, prediction.len(), answer.len())]
    });
    let best = kinds.reduce(|best, kinds| std::array::from_fn(|kind| best[kind].max(kinds[kind])));
    best.map_or(0.0, |best| best.iter().product::<f64>().cbrt())
}

/// F of the runs of `length` words.
fn grams(prediction: &[String], answer: &[String], length: usize) -> f64 {
    let (found, due) = (counts(prediction.windows(length)), counts(answer.windows(length)));
    let hits = due.iter().map(|(gram, count)| *count.min(found.get(*gram).unwrap_or(&0))).sum();
    f(hits, found.values().sum(), due.values().sum())
}

fn f(hits: usize, prediction: usize, answer: usize) -> f64 {
    if hits == 0 { 0.0 } else { 2.0 * hits as f64 / (prediction + answer) as f64 }
}

fn counts<'t, T: Hash + Eq + ?Sized>(items: impl Iterator<Item = &'t T>) -> HashMap<&'t T, usize> {
    let mut counts = HashMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}

/// Sentences as `rouge` splits them: at full stops, words at single spaces.
fn sentences(text: &str) -> Vec<Vec<&str>> {
    let words = |sentence| {
        let words: Vec<&str> = str::split_whitespace(sentence).collect();
        if words.is_empty() { vec![""] } else { words }
    };
    text.split('.').filter(|sentence| !sentence.is_empty()).map(words).collect()
}

/// Words of letters and digits of ASCII, in small letters.
fn tokens(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|letter: char| !(letter.is_ascii_lowercase() || letter.is_ascii_digit()));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Positions in `due` of a longest common subsequence. Where two are equally long, `rouge` reads the table one way and
/// `rouge-score` the other: `back` prefers to leave out words of `found`.
fn common<T: PartialEq>(due: &[T], found: &[T], back: bool) -> Vec<usize> {
    let width = found.len() + 1;
    let mut table = vec![0u32; (due.len() + 1) * width];
    for (i, word) in due.iter().enumerate() {
        for (j, other) in found.iter().enumerate() {
            table[(i + 1) * width + j + 1] = if word == other {
                table[i * width + j] + 1
            } else {
                table[i * width + j + 1].max(table[(i + 1) * width + j])
            };
        }
    }
    let (mut i, mut j, mut positions) = (due.len(), found.len(), Vec::new());
    while i > 0 && j > 0 {
        let (up, left) = (table[(i - 1) * width + j], table[i * width + j - 1]);
        if due[i - 1] == found[j - 1] {
            positions.push(i - 1);
            (i, j) = (i - 1, j - 1);
        } else if if back { up > left } else { up >= left } {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    positions
}
