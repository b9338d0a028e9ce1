//! Similarity of code, as `fuzzywuzzy` computes it with Python's `difflib`.

use std::collections::HashMap;

/// Similarity of the first line of `prediction` that holds neither fence nor comment, in whole hundredths.
pub(super) fn first_code_line(prediction: &str, answer: &str) -> f64 {
    let lines = prediction.trim_start_matches('\n').split('\n');
    let mut code = lines.filter(|line| !['`', '#'].iter().any(|mark| line.contains(*mark)) && !line.contains("//"));
    similarity(code.next().unwrap_or_default(), answer)
}

/// `fuzz.ratio` over 100; an empty text is like nothing.
fn similarity(one: &str, other: &str) -> f64 {
    if one.is_empty() || other.is_empty() {
        return 0.0;
    }
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let ratio = 2.0 * matching(&one, &other) as f64 / (one.len() + other.len()) as f64;
    (100.0 * ratio).round_ties_even() / 100.0
}

/// Letters in the matching blocks of `difflib`: the longest match that does not begin with a letter that is all too
/// frequent, and so on to its left and right.
fn matching(one: &[char], other: &[char]) -> usize {
    let mut places: HashMap<char, Vec<usize>> = HashMap::new();
    for (at, letter) in other.iter().enumerate() {
        places.entry(*letter).or_default().push(at);
    }
    if other.len() >= 200 {
        let many = other.len() / 100 + 1;
        places.retain(|_, places| places.len() <= many);
    }
    let mut parts = vec![(0..one.len(), 0..other.len())];
    let mut total = 0;
    while let Some((left, right)) = parts.pop() {
        let (mut i, mut j, mut length) = (left.start, right.start, 0);
        let mut runs: HashMap<usize, usize> = HashMap::new();
        for at in left.clone() {
            let mut next = HashMap::new();
            for &place in places.get(&one[at]).into_iter().flatten().filter(|place| right.contains(place)) {
                let run = place.checked_sub(1).and_then(|before| runs.get(&before)).map_or(1, |run| run + 1);
                next.insert(place, run);
                if run > length {
                    (i, j, length) = (at + 1 - run, place + 1 - run, run);
                }
            }
            runs = next;
        }
        // Frequent letters around a match belong to it.
        while i > left.start && j > right.start && one[i - 1] == other[j - 1] {
            (i, j, length) = (i - 1, j - 1, length + 1);
        }
        while i + length < left.end && j + length < right.end && one[i + length] == other[j + length] {
            length += 1;
        }
        if length > 0 {
            total += length;
            parts.push((left.start..i, right.start..j));
            parts.push((i + length..left.end, j + length..right.end));
        }
    }
    total
}
