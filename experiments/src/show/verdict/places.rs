//! Where a text stands in a context.

use std::ops::Range;

/// Tokens of the context that a text takes up.
pub type Place = Range<usize>;

/// All places of `answer` in a text whose tokens end at `ends`, whatever the case, as words of their own.
pub fn places(text: &str, ends: &[usize], answer: &str) -> Vec<Place> {
    let answer = answer.trim();
    let starts = text.char_indices().map(|(start, _)| start);
    let spans = starts.filter_map(|start| Some(start..start + same(&text[start..], answer)?));
    let apart = |span: &Range<usize>| {
        let word = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
        let (first, last) = (answer.chars().next(), answer.chars().next_back());
        let before = word(first) && word(text[..span.start].chars().next_back());
        let after = word(last) && word(text[span.end..].chars().next());
        !before && !after
    };
    let tokens = |span: Range<usize>| {
        ends.partition_point(|end| *end <= span.start)..ends.partition_point(|end| *end < span.end) + 1
    };
    spans.filter(apart).map(tokens).filter(|place| place.end <= ends.len()).collect()
}

/// Bytes of `text` that are `answer` but for the case; `None` if it begins otherwise.
fn same(text: &str, answer: &str) -> Option<usize> {
    let mut letters = text.char_indices();
    for due in answer.chars() {
        let (_, letter) = letters.next()?;
        if letter != due && !letter.to_lowercase().eq(due.to_lowercase()) {
            return None;
        }
    }
    let end = letters.next().map_or(text.len(), |(end, _)| end);
    (end > 0 && !answer.is_empty()).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_every_place() {
        // Tokens: "Der", " Ä", "hre", "n", " 4", "2", ". ", "42", "1 ähren"
        let text = "Der Ähren 42. 421 ähren";
        let mut ends = Vec::new();
        for piece in ["Der", " Ä", "hre", "n", " 4", "2", ". ", "42", "1 ähren"] {
            ends.push(ends.last().unwrap_or(&0) + piece.len());
        }
        let found = |wanted| places(text, &ends, wanted).into_iter().map(|at| (at.start, at.end)).collect::<Vec<_>>();
        assert_eq!(found("42"), [(4, 6)]);
        assert_eq!(found("ÄHREN"), [(1, 4), (8, 9)]);
        assert_eq!(found("Der Ähren"), [(0, 4)]);
        assert!(found("4").is_empty() && found("").is_empty());
    }
}
