//! `config.yaml` of a results folder, and the folder's name that follows from it.

use std::path::Path;

use pressroom::pipeline::Regime;
use pressroom::{Error, Result};
use serde_json::{Map, Value};

/// The keys and values of an evaluation, in their order; those that this version does not know are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Config(pub Map<String, Value>);

impl Config {
    /// Reads a `config.yaml`.
    ///
    /// # Errors
    /// It is missing, or no YAML with a data set, a model and a press.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let config = Self(serde_saphyr::from_str(&text).map_err(|error| Error::file(path, error.to_string()))?);
        match ["dataset", "model", "press_name"].into_iter().find(|key| config.text(key).is_none()) {
            Some(missing) => Err(Error::file(path, format!("has no `{missing}`"))),
            None => Ok(config),
        }
    }

    /// Writes a `config.yaml`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_saphyr::to_string(&self.0).map_err(|error| Error::file(path, error.to_string()))?;
        std::fs::write(path, text).map_err(Error::io(path))
    }

    /// A text, also one that YAML takes for a number.
    pub fn text(&self, key: &str) -> Option<String> {
        match self.0.get(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.0.get(key)?.as_f64()
    }

    /// Data set, its part and the model: what results have to share to be one run.
    pub fn subject(&self) -> [Option<String>; 3] {
        ["dataset", "data_dir", "model"].map(|key| self.text(key))
    }

    /// Whether the press saw the question. Before 0.4 the key was `compress_questions`.
    pub fn regime(&self) -> Regime {
        let visible = ["query_aware", "compress_questions"].map(|key| self.0.get(key).and_then(Value::as_bool));
        if visible.contains(&Some(true)) { Regime::Visible } else { Regime::Hidden }
    }

    /// What stands for the ratio in names: that of the press, or of its threshold or heads where it has those.
    pub fn ratio(&self) -> Option<f64> {
        ["threshold", "head_compression_ratio", "compression_ratio"].into_iter().find_map(|key| self.number(key))
    }

    /// The name that kvpress gives the folder.
    pub fn folder_name(&self) -> String {
        let mut parts: Vec<String> = ["dataset", "data_dir"].into_iter().filter_map(|key| self.text(key)).collect();
        parts.extend(self.text("model").map(|model| model.replace('/', "--")));
        parts.extend(self.text("press_name"));
        parts.push(format!("{:.2}", self.ratio().unwrap_or(0.0)));
        parts.extend(
            self.number("fraction").filter(|fraction| *fraction < 1.0).map(|part| format!("fraction{part:.3}")),
        );
        parts.extend(self.text("max_context_length").map(|length| format!("max_context{length}")));
        if self.regime() == Regime::Visible {
            parts.push("query_aware".into());
        }
        let channels = self.number("key_channel_compression_ratio");
        parts.extend(channels.map(|ratio| format!("key_channel_cr{ratio:.2}")));
        if self.text("dataset").as_deref() == Some("needle_in_haystack") {
            parts.extend(self.text("needle_depth").map(|depth| format!("needle_depth{depth}")));
        }
        parts.retain(|part| !part.is_empty());
        parts.join("__")
    }
}
