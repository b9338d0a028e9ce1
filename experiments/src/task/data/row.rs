//! One row of a file, with its place for messages.

use std::path::Path;
use std::sync::Arc;

use pressroom::{Error, Result};
use serde_json::{Map, Value};

/// An object and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Row {
    file: Arc<Path>,
    /// `line 7`, `row 7` or `item 7`, counted from one.
    place: String,
    values: Map<String, Value>,
}

impl Row {
    /// A row of `file`; `parsed` is what became of its text.
    ///
    /// # Errors
    /// It could not be parsed, or is no object.
    pub(super) fn new(file: &Arc<Path>, place: String, parsed: Result<Value, String>) -> Result<Self> {
        match parsed {
            Ok(Value::Object(values)) => Ok(Self { file: file.clone(), place, values }),
            Ok(other) => Err(Error::file(file, format!("{place}: is {}, not an object", kind(&other)))),
            Err(problem) => Err(Error::file(file, format!("{place}: {problem}"))),
        }
    }

    /// An error of this row.
    pub(super) fn bad(&self, problem: impl AsRef<str>) -> Error {
        Error::file(&self.file, format!("{}: {}", self.place, problem.as_ref()))
    }

    /// The file's name without its ending.
    pub(super) fn stem(&self) -> &str {
        self.file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
    }

    /// The value of `field`; `null` is none.
    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        self.values.get(field).filter(|value| !value.is_null())
    }

    /// Whether there is such a field.
    pub(super) fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    /// Text that has to be there.
    pub(super) fn text(&self, field: &str) -> Result<&str> {
        self.optional_text(field)?.ok_or_else(|| {
            let known: Vec<&str> = self.values.keys().map(String::as_str).collect();
            self.bad(format!("missing field `{field}`; there are {}", known.join(", ")))
        })
    }

    /// Text that may be absent.
    pub(super) fn optional_text(&self, field: &str) -> Result<Option<&str>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.bad(format!("`{field}` is {}, text is due", kind(other)))),
        }
    }

    /// A whole number, at least one, that may be absent.
    pub(super) fn count(&self, field: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match value.as_u64().and_then(|count| usize::try_from(count).ok()) {
            Some(0) => Err(self.bad(format!("{field} is 0; at least 1 is due"))),
            Some(count) => Ok(Some(count)),
            None => Err(self.bad(format!("`{field}` is {value}, a whole number is due"))),
        }
    }

    /// Texts: one, or a list of at least one; numbers count as they are written.
    pub(super) fn texts(&self, field: &str) -> Result<Vec<String>> {
        let value = self.get(field).ok_or_else(|| self.bad(format!("missing field `{field}`")))?;
        self.texts_of(field, value)
    }

    /// [`Self::texts`] of a value within the row.
    pub(super) fn texts_of(&self, field: &str, value: &Value) -> Result<Vec<String>> {
        let text = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            other => Err(self.bad(format!("`{field}` holds {}; text is due", kind(other)))),
        };
        match value {
            Value::Array(items) if items.is_empty() => {
                Err(self.bad(format!("`{field}` is an empty list; nothing could be right")))
            }
            Value::Array(items) => items.iter().map(text).collect(),
            other => Ok(vec![text(other)?]),
        }
    }

    /// The objects of a list that has to be there and hold something.
    pub(super) fn objects(&self, field: &str) -> Result<Vec<Self>> {
        match self.get(field) {
            Some(Value::Array(items)) if !items.is_empty() => items
                .iter()
                .enumerate()
                .map(|(at, item)| {
                    let place = format!("{}, {field} {}", self.place, at + 1);
                    Self::new(&self.file, place, Ok(item.clone()))
                })
                .collect(),
            Some(other) => Err(self.bad(format!("`{field}` is {}, a list of objects is due", kind(other)))),
            None => Err(self.bad(format!("missing field `{field}`"))),
        }
    }

    /// The same row with another value of `field`.
    pub(super) fn with(mut self, field: &str, value: Value) -> Self {
        self.values.insert(field.to_owned(), value);
        self
    }
}

/// What a value is, in the words of messages.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(_) => "text".into(),
        Value::Array(items) if items.is_empty() => "an empty list".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}
