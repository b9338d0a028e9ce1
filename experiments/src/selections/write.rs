//! Storing the selections of a prefill.

use std::collections::HashMap;
use std::path::Path;

use pressroom::model::TextTokenizer;
use pressroom::pipeline::Compressed;
use pressroom::plan::SessionPlan;
use pressroom::{Error, Result};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::{FOLDER, Header, Kept};

/// One prefill of a context.
pub struct Prefill<'a> {
    /// Index of the sample.
    pub sample: usize,
    /// Its questions, by their turn.
    pub questions: Vec<(usize, String)>,
    /// Token ids of the context.
    pub context: &'a [i64],
    /// The presses and what they left.
    pub outcomes: Vec<(&'a SessionPlan, &'a Result<Compressed>)>,
}

/// Writes the file of a prefill into the folder of a run; presses that failed are left out.
///
/// # Errors
/// The context cannot be turned back into text, or the file cannot be written.
pub fn write(run: &Path, tokenizer: &TextTokenizer, prefill: &Prefill<'_>) -> Result<()> {
    let folder = run.join(FOLDER);
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let bad = |error: &dyn std::fmt::Display| Error::file(&folder, error.to_string());
    let (mut text, mut ends) = (String::new(), Vec::new());
    for piece in tokenizer.pieces(prefill.context)? {
        text += &piece;
        ends.extend(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
    }
    let tokens = prefill.context.len();
    let decided = prefill.outcomes.iter().filter_map(|(plan, outcome)| Some((*plan, outcome.as_ref().ok()?)));
    let (sessions, kept): (Vec<_>, Vec<Kept>) = decided
        .map(|(plan, compressed)| ((plan.label.clone(), plan.ratio), Kept::of(&compressed.decisions, tokens)))
        .unzip();
    let header = Header { tokens, questions: prefill.questions.clone(), sessions };
    let view = |dtype, shape: Vec<usize>, bytes| TensorView::new(dtype, shape, bytes).map_err(|error| bad(&error));
    let mut tensors = vec![
        ("text".to_owned(), view(Dtype::U8, vec![text.len()], text.as_bytes())?),
        ("ends".to_owned(), view(Dtype::U64, vec![tokens], &ends)?),
    ];
    for (index, kept) in kept.iter().enumerate() {
        let shape = vec![kept.layers, kept.kv_heads, tokens.div_ceil(8)];
        tensors.push((format!("kept.{index}"), view(Dtype::U8, shape, kept.bytes())?));
    }
    let header = serde_json::to_string(&header).map_err(|error| bad(&error))?;
    let turn = prefill.questions.first().map_or(0, |(turn, _)| *turn);
    let hash = crc32fast::hash(header.as_bytes());
    let path = folder.join(format!("{:05}-{turn}-{hash:08x}.safetensors", prefill.sample));
    let metadata = HashMap::from([("pressroom".to_owned(), header)]);
    let partial = path.with_extension("partial");
    safetensors::serialize_to_file(tensors, Some(metadata), &partial).map_err(|error| bad(&error))?;
    std::fs::rename(&partial, &path).map_err(Error::io(&path))
}
