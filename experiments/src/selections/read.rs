//! Reading stored selections.

use std::path::{Path, PathBuf};

use pressroom::{Error, Result};
use safetensors::SafeTensors;

use super::{FOLDER, Header, Kept};

/// A context with what presses kept of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The context's text, template and all; special tokens are empty in it.
    pub text: String,
    /// Where each token's text ends, bytes.
    pub ends: Vec<usize>,
    /// The question.
    pub question: String,
    /// Press, ratio and what was kept.
    pub sessions: Vec<(String, Option<f64>, Kept)>,
}

impl Stored {
    /// The bytes of a token's text.
    pub fn span(&self, token: usize) -> std::ops::Range<usize> {
        let start = if token == 0 { 0 } else { self.ends[token - 1] };
        start..self.ends[token]
    }

    /// A token's text.
    pub fn token(&self, token: usize) -> &str {
        self.text.get(self.span(token)).unwrap_or_default()
    }

    /// What a press at a ratio kept.
    pub fn kept(&self, press: &str, ratio: Option<f64>) -> Option<&Kept> {
        self.sessions.iter().find(|(label, own, _)| label == press && *own == ratio).map(|(.., kept)| kept)
    }
}

/// The selections of a sample and one of its questions; `None` where the run stored none.
///
/// # Errors
/// A file is damaged.
pub fn read(run: &Path, sample: usize, turn: usize) -> Result<Option<Stored>> {
    let own = format!("{sample:05}-");
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&own));
    let mut found: Option<Stored> = None;
    for path in files(run)?.into_iter().filter(named) {
        let Some(part) = file(&path, turn)? else { continue };
        match &mut found {
            // Presses that did not fit in memory together, or were prefilled again after an interruption.
            Some(stored) => {
                let new = part.sessions.into_iter().filter(|(press, ratio, _)| stored.kept(press, *ratio).is_none());
                let new: Vec<_> = new.collect();
                stored.sessions.extend(new);
            }
            None => found = Some(part),
        }
    }
    Ok(found)
}

/// The files of a run in the order of their names; none where it stored none.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn files(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = run.join(FOLDER);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(&folder)(error)),
    };
    let paths: std::io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(Error::io(&folder))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    paths.sort();
    Ok(paths)
}

/// One file, if it holds the question.
fn file(path: &Path, turn: usize) -> Result<Option<Stored>> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let bad = |problem: String| Error::file(path, format!("is no file of selections: {problem}"));
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| bad(error.to_string()))?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| bad(error.to_string()))?;
    let header = metadata.metadata().as_ref().and_then(|entries| entries.get("pressroom"));
    let header = header.ok_or_else(|| bad("its header is missing".into()))?;
    let header: Header = serde_json::from_str(header).map_err(|error| bad(error.to_string()))?;
    let Some((_, question)) = header.questions.iter().find(|(own, _)| *own == turn) else { return Ok(None) };
    let tensor = |name: &str| tensors.tensor(name).map_err(|error| bad(error.to_string()));
    let text = String::from_utf8(tensor("text")?.data().to_vec()).map_err(|error| bad(error.to_string()))?;
    let ends: Vec<usize> = tensor("ends")?
        .data()
        .chunks_exact(8)
        .map(|end| end.try_into().map_or(usize::MAX, |end| u64::from_le_bytes(end) as usize))
        .collect();
    let ordered = ends.is_sorted() && ends.last().is_none_or(|end| *end == text.len());
    if ends.len() != header.tokens || !ordered || ends.iter().any(|end| !text.is_char_boundary(*end)) {
        return Err(bad("its tokens do not make up its text".into()));
    }
    let mut sessions = Vec::new();
    for (index, (label, ratio)) in header.sessions.into_iter().enumerate() {
        let bits = tensor(&format!("kept.{index}"))?;
        let kept = match bits.shape() {
            &[layers, kv_heads, _] => Kept::from_bytes(layers, kv_heads, header.tokens, bits.data()),
            _ => None,
        };
        sessions.push((label, ratio, kept.ok_or_else(|| bad(format!("kept.{index} is of another size")))?));
    }
    Ok(Some(Stored { text, ends, question: question.clone(), sessions }))
}
