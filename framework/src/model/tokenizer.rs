//! Text to token ids and back.

use std::ops::Range;
use std::path::Path;

use tokenizers::Tokenizer;

use crate::error::{Error, Result};
use crate::panics::caught;

/// Most tokens that a character takes, with the one before it.
const LONGEST_CHARACTER: usize = 6;

/// The tokenizer of a model folder (`tokenizer.json`).
#[derive(Clone, Debug)]
pub struct TextTokenizer(Tokenizer);

impl TextTokenizer {
    /// Reads `tokenizer.json` of a model folder.
    ///
    /// # Errors
    /// The file is missing or broken.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        Self::parse(&bytes).map_err(|problem| {
            Error::file(&path, format!("is no usable tokenizer: {problem}; import or fetch the model again"))
        })
    }

    /// Parses the content of `tokenizer.json`.
    ///
    /// # Errors
    /// What the library behind it says.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        told(|| Tokenizer::from_bytes(json)).map(Self)
    }

    /// Token ids of `text`. Special tokens written in the text are recognised, none are added.
    ///
    /// # Errors
    /// The tokenizer cannot encode the text.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let encoding =
            told(|| self.0.encode_fast(text, false)).map_err(|said| Error::input(format!("tokenizing: {said}")))?;
        Ok(encoding.get_ids().iter().map(|&id| i64::from(id)).collect())
    }

    /// The bytes of `text` that each of its tokens stands for.
    ///
    /// # Errors
    /// The tokenizer cannot encode the text.
    pub fn spans(&self, text: &str) -> Result<Vec<Range<usize>>> {
        let encoding =
            told(|| self.0.encode(text, false)).map_err(|said| Error::input(format!("tokenizing: {said}")))?;
        Ok(encoding.get_offsets().iter().map(|&(start, end)| start..end).collect())
    }

    /// Text of token ids, without special tokens.
    ///
    /// # Errors
    /// The tokenizer cannot decode the ids.
    pub fn decode(&self, ids: &[i64]) -> Result<String> {
        let ids: Vec<u32> = ids.iter().filter_map(|&id| u32::try_from(id).ok()).collect();
        told(|| self.0.decode(&ids, true)).map_err(|said| Error::input(format!("decoding tokens: {said}")))
    }

    /// The text that each of `ids` adds; a character of several tokens is its last one's. Special tokens add nothing.
    ///
    /// # Errors
    /// The tokenizer cannot decode the ids.
    pub fn pieces(&self, ids: &[i64]) -> Result<Vec<String>> {
        let mut pieces = Vec::with_capacity(ids.len());
        // The token before stays in what is decoded: some tokenizers drop the space that a text begins with.
        let (mut before, mut start) = (String::new(), 0);
        for end in 1..=ids.len() {
            let text = self.decode(&ids[start..end])?;
            if text.ends_with('\u{FFFD}') && end < ids.len() && end - start < LONGEST_CHARACTER {
                pieces.push(String::new());
                continue;
            }
            pieces.push(text.strip_prefix(&before).unwrap_or(&text).to_owned());
            start = end - 1;
            before = self.decode(&ids[start..end])?;
        }
        Ok(pieces)
    }

    /// A decoder that is fed one token at a time.
    pub fn stream(&self) -> TokenStream<'_> {
        TokenStream { tokenizer: self, ids: Vec::new(), shown: 0 }
    }
}

/// What a call to the library gives or says. It panics on files that contradict themselves, which is an error like any
/// other here.
fn told<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    caught(call)?.map_err(|error| error.to_string())
}

/// Turns tokens into text as they come, holding back bytes of characters that are not complete yet.
pub struct TokenStream<'a> {
    tokenizer: &'a TextTokenizer,
    ids: Vec<i64>,
    shown: usize,
}

impl TokenStream<'_> {
    /// The text that `id` completes; empty in the middle of a character.
    ///
    /// # Errors
    /// The tokenizer cannot decode the ids.
    pub fn push(&mut self, id: i64) -> Result<String> {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids)?;
        if text.ends_with('\u{FFFD}') {
            return Ok(String::new());
        }
        let new = text.get(self.shown..).unwrap_or_default().to_owned();
        self.shown = text.len();
        Ok(new)
    }
}
