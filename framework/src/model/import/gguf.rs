//! An opened GGUF file: typed access to its metadata, with errors that name the file and the key.

use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, Value};

use super::check::check_header;
use crate::error::{Error, Result};

/// A GGUF file whose header has been checked and read; tensor data stays on disk.
pub(super) struct Gguf {
    pub path: PathBuf,
    pub file: File,
    /// Length of the file in bytes.
    pub length: u64,
    pub content: Content,
}

impl Gguf {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let about = file.metadata().map_err(Error::io(path))?;
        if !about.is_file() {
            return Err(Error::file(path, "this is no regular file; give the path of a .gguf file"));
        }
        let mut header = BufReader::new(&file);
        check_header(&mut header, about.len()).map_err(|problem| Error::file(path, problem))?;
        header.rewind().map_err(Error::io(path))?;
        let content = Content::read(&mut header)
            .map_err(|error| Error::file(path, format!("the header cannot be read: {error}")))?;
        Ok(Self { path: path.to_owned(), file, length: about.len(), content })
    }

    /// An error about this file.
    pub fn bad(&self, problem: impl Into<String>) -> Error {
        Error::file(&self.path, problem)
    }

    fn wrong(&self, key: &str, value: &Value, wanted: &str) -> Error {
        self.bad(format!("metadata `{key}` should be {wanted}, but is {:?}", value.value_type()))
    }

    fn get<'a, T>(&'a self, key: &str, wanted: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        match self.content.metadata.get(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.wrong(key, value, wanted)),
        }
    }

    /// A count or id: any integer type, not negative.
    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        self.get(key, "a number from 0 up", |value| integer(value).and_then(|number| usize::try_from(number).ok()))
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a finite number", |value| match value {
            Value::F32(number) => Some(f64::from(*number)).filter(|number| number.is_finite()),
            Value::F64(number) => Some(*number).filter(|number| number.is_finite()),
            other => integer(other).map(|number| number as f64),
        })
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "true or false", |value| value.to_bool().ok())
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.get(key, "a text", |value| value.to_string().ok().map(String::as_str))
    }

    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.get(key, "a list of texts", |value| {
            value.to_vec().ok()?.iter().map(|item| item.to_string().ok().map(String::as_str)).collect()
        })
    }

    pub fn integers(&self, key: &str) -> Result<Option<Vec<i128>>> {
        self.get(key, "a list of integers", |value| value.to_vec().ok()?.iter().map(integer).collect())
    }

    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.get(key, "a list of numbers", |value| value.to_vec().ok()?.iter().map(|item| item.to_f32().ok()).collect())
    }

    /// The value of a key that must be there.
    pub fn need<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.bad(format!("metadata `{key}` is missing; convert the model to GGUF again")))
    }
}

fn integer(value: &Value) -> Option<i128> {
    Some(match *value {
        Value::U8(number) => number.into(),
        Value::I8(number) => number.into(),
        Value::U16(number) => number.into(),
        Value::I16(number) => number.into(),
        Value::U32(number) => number.into(),
        Value::I32(number) => number.into(),
        Value::U64(number) => number.into(),
        Value::I64(number) => number.into(),
        _ => return None,
    })
}
