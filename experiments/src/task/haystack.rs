//! Haystacks: text of a wanted length with needles at wanted depths.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use pressroom::model::TextTokenizer;
use pressroom::{Error, Result};

use super::prose::Dice;

/// What filler is made of.
pub(super) enum Hay {
    /// Generated prose.
    Prose,
    /// The same few sentences over and over.
    Noise,
    /// Sentences of text files, in their order.
    Text(Vec<String>),
}

/// What is repeated as noise.
const NOISE: [&str; 4] =
    ["The tide comes in.", "The tide goes out.", "A bell rings twice.", "Then all is still again."];

impl Hay {
    /// The text files (`.txt`) of a folder, in the order of their names, or prose where none is given.
    ///
    /// # Errors
    /// The folder cannot be read, or holds no text.
    pub(super) fn read(folder: Option<&str>) -> Result<Self> {
        folder.map_or(Ok(Self::Prose), |folder| Ok(Self::Text(sentences(&texts(Path::new(folder))?))))
    }

    /// The sentences in their order, from a place that `dice` chooses where there is one to choose.
    fn from<'h>(&'h self, dice: &'h mut Dice) -> Box<dyn Iterator<Item = String> + 'h> {
        match self {
            Self::Prose => Box::new(std::iter::repeat_with(|| dice.sentence())),
            Self::Noise => Box::new(NOISE.iter().cycle().map(|sentence| (*sentence).to_owned())),
            Self::Text(sentences) => Box::new(sentences.iter().cycle().skip(dice.below(sentences.len())).cloned()),
        }
    }

    /// At most `tokens` tokens: what is told `before`, and sentences with `needles` among them, at depths from 0 to 1.
    ///
    /// # Errors
    /// There is no room for the needles; the tokenizer fails.
    pub(super) fn stack(
        &self,
        before: &str,
        needles: &[(f64, String)],
        tokens: usize,
        tokenizer: &TextTokenizer,
        dice: &mut Dice,
    ) -> Result<String> {
        // A sentence is encoded as it stands in the text, with the space before it.
        let length = |sentence: &str| Ok::<_, Error>(tokenizer.encode(&format!(" {sentence}"))?.len());
        let needed = needles.iter().map(|(_, needle)| length(needle)).sum::<Result<usize>>()?;
        let taken = needed + tokenizer.encode(before)?.len();
        let budget = tokens.checked_sub(taken).ok_or_else(|| too_short(tokens, taken))?;
        let (mut sentences, mut used) = (Vec::new(), 0);
        for sentence in self.from(dice) {
            used += length(&sentence)?;
            if used > budget {
                break;
            }
            sentences.push(sentence);
        }
        let mut placed: Vec<(usize, &String)> =
            needles.iter().map(|(depth, needle)| ((depth * sentences.len() as f64).round() as usize, needle)).collect();
        // From the back, so that no insertion moves the places that follow; equal places keep their order.
        placed.reverse();
        placed.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
        for (place, needle) in placed {
            sentences.insert(place, needle.clone());
        }
        Ok(before.to_owned() + &sentences.join(" "))
    }
}

/// What a context that has no room for its task says.
fn too_short(tokens: usize, needed: usize) -> Error {
    Error::input(format!(
        "a context of {tokens} tokens has no room for this task, which needs {needed}; make it longer"
    ))
}

/// The largest number of units whose text, as `build` makes it, has at most `tokens` tokens.
///
/// # Errors
/// Not even the least number fits; the tokenizer fails.
pub(super) fn fit(
    units: RangeInclusive<usize>,
    tokens: usize,
    tokenizer: &TextTokenizer,
    build: impl Fn(usize) -> String,
) -> Result<usize> {
    let length = |units: usize| Ok::<_, Error>(tokenizer.encode(&build(units))?.len());
    let (mut fits, most) = units.into_inner();
    let smallest = length(fits)?;
    if smallest > tokens {
        return Err(too_short(tokens, smallest));
    }
    // Doubling finds a number that is too much, halving the last one that is not.
    let mut much = 2 * fits.max(1);
    while much <= most && length(much)? <= tokens {
        (fits, much) = (much, 2 * much);
    }
    much = much.min(most + 1);
    while much - fits > 1 {
        let middle = fits + (much - fits) / 2;
        if length(middle)? <= tokens {
            fits = middle;
        } else {
            much = middle;
        }
    }
    Ok(fits)
}

/// The contents of a text file, or of the `.txt` files of a folder in the order of their names.
///
/// # Errors
/// Nothing can be read there, or nothing is there.
pub(super) fn texts(place: &Path) -> Result<String> {
    let mut files: Vec<PathBuf> = if place.is_dir() {
        let entries = std::fs::read_dir(place).map_err(Error::io(place))?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(Error::io(place)));
        paths.collect::<Result<_>>()?
    } else {
        vec![place.to_owned()]
    };
    files.retain(|path| path == place || path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    let mut all = Vec::new();
    for file in &files {
        let bytes = std::fs::read(file).map_err(Error::io(file))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            Error::file(file, format!("is no UTF-8 from byte {} on", error.utf8_error().valid_up_to() + 1))
        })?;
        all.push(text);
    }
    let text = all.join("\n\n");
    if text.trim().is_empty() {
        return Err(Error::file(place, "holds no text; a folder of .txt files or one text file is due"));
    }
    Ok(text)
}

/// Sentences of a text, line breaks within them made spaces.
fn sentences(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for paragraph in text.split("\n\n") {
        let mut rest = paragraph.split_whitespace().peekable();
        while rest.peek().is_some() {
            let mut words = Vec::new();
            for word in rest.by_ref() {
                words.push(word);
                if word.ends_with(['.', '!', '?']) {
                    break;
                }
            }
            found.push(words.join(" "));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::testing::words;

    #[test]
    fn sentences_end_at_stops_and_paragraphs() {
        let text = "One two.\nThree\nfour! Five\n\nsix";
        assert_eq!(sentences(text), ["One two.", "Three four!", "Five", "six"]);
    }

    #[test]
    fn the_most_that_fits_is_found() {
        let words = words();
        for (tokens, expected) in [(1, 1), (2, 2), (7, 7), (8, 8), (9, 8), (1000, 8)] {
            assert_eq!(fit(1..=8, tokens, &words, |units| "a ".repeat(units)).unwrap(), expected);
        }
        let error = fit(3..=8, 2, &words, |units| "a ".repeat(units)).unwrap_err().to_string();
        assert!(error.contains("2 tokens has no room for this task, which needs 3"), "{error}");
    }

    #[test]
    fn folders_are_read_in_the_order_of_names() {
        let folder = tempfile::tempdir().unwrap();
        assert!(texts(folder.path()).unwrap_err().to_string().contains("holds no text"));
        for (name, text) in [("b.txt", "second"), ("a.txt", "first"), ("c.md", "third")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        assert_eq!(texts(folder.path()).unwrap(), "first\n\nsecond");
        assert_eq!(texts(&folder.path().join("c.md")).unwrap(), "third");
        std::fs::write(folder.path().join("d.txt"), b"ab\xff").unwrap();
        let error = texts(folder.path()).unwrap_err().to_string();
        assert!(error.contains("d.txt: is no UTF-8 from byte 3 on"), "{error}");
        assert!(texts(&folder.path().join("none")).is_err());
    }
}
