//! GGUF import: a quantized llama.cpp file becomes a folder in Hugging Face layout.
//!
//! Reading the container and dequantizing its blocks is `candle-core`'s work; the mapping of names, row order, rotary
//! scaling and tokenizer is done here, one file each.

mod check;
mod config;
mod gguf;
mod rope;
mod spm;
mod tensors;
mod tokenizer;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use self::config::{Architecture, SpecialIds};
use self::gguf::Gguf;
use crate::error::{Error, Result};

/// Element type of the written weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImportDtype {
    /// float32: the dequantized values exactly.
    #[default]
    F32,
    /// bfloat16: half the size, 8 bits of precision.
    Bf16,
    /// float16: half the size, 11 bits of precision; refused where a value exceeds its range.
    F16,
}

impl ImportDtype {
    /// Torch's name of the type, as in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }
}

/// How to import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Element type of the written weights.
    pub dtype: ImportDtype,
    /// Draw a progress bar on standard error (only ever drawn on a terminal).
    pub progress: bool,
}

/// What was imported.
#[derive(Debug, Clone)]
pub struct ImportReport {
    /// The folder that was made.
    pub folder: PathBuf,
    /// Number of tensors written.
    pub tensors: usize,
    /// Size of `model.safetensors` in bytes.
    pub bytes: u64,
    /// Does the model bring a chat template?
    pub chat_template: bool,
}

/// Imports the GGUF `file` (llama architecture) into the new `folder`.
///
/// The folder is written beside its final place and renamed, so that it is complete or absent.
///
/// # Errors
/// When the file is corrupt, of another architecture, tensor type or tokenizer, when `folder` exists, or when it cannot
/// be written. The message names the file and what to do.
pub fn import_gguf(file: &Path, folder: &Path, options: &ImportOptions) -> Result<ImportReport> {
    if folder.symlink_metadata().is_ok() {
        return Err(Error::file(folder, "already exists; remove it or import into another folder"));
    }
    let gguf = Gguf::open(file)?;
    let model = Architecture::read(&gguf)?;
    let ids = SpecialIds::read(&gguf, model.vocabulary)?;
    let planned = tensors::plan(&gguf, &model)?;
    let tokenizer = tokenizer::read(&gguf, &ids, model.vocabulary)?;

    let staging = stage(folder)?;
    let path = staging.path();
    write_json(&path.join("config.json"), &model.config(&ids, options.dtype.name()))?;
    write_json(&path.join("generation_config.json"), &ids.generation())?;
    write_json(&path.join("tokenizer.json"), &tokenizer.tokenizer)?;
    write_json(&path.join("tokenizer_config.json"), &tokenizer.config)?;
    if let Some(template) = &tokenizer.chat_template {
        let target = path.join("chat_template.jinja");
        fs::write(&target, template).map_err(Error::io(&target))?;
    }
    let progress = progress_bar(options.progress);
    let bytes = tensors::write(&gguf, &planned, options.dtype, &path.join("model.safetensors"), &progress)?;
    progress.finish_and_clear();
    fs::rename(path, folder).map_err(Error::io(folder))?;
    // What the guard would remove is no longer there under that name.
    let _ = staging.keep();
    Ok(ImportReport {
        folder: folder.to_owned(),
        tensors: planned.len(),
        bytes,
        chat_template: tokenizer.chat_template.is_some(),
    })
}

/// A hidden folder beside `folder`, on the same file system, that is removed unless kept.
fn stage(folder: &Path) -> Result<tempfile::TempDir> {
    let name = folder
        .file_name()
        .ok_or_else(|| Error::file(folder, "does not name a folder that can be made"))?
        .to_string_lossy()
        .into_owned();
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(Error::io(parent))?;
    let prefix = format!(".{name}.importing-");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    // Temporary folders are private by default; a model folder is as readable as any other (the umask still applies).
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.tempdir_in(parent).map_err(Error::io(parent))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::file(path, error.to_string()))?;
    fs::write(path, text + "\n").map_err(Error::io(path))
}

fn progress_bar(wanted: bool) -> ProgressBar {
    if !wanted {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("importing {bytes}/{total_bytes} [{bar:30}] {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests;
