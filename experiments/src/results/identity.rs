//! What a run is: everything that decides its answers, so that no two runs share a folder.

use std::collections::BTreeMap;

use pressroom::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Everything that decides the answers of a run; `plan.json` of its folder.
#[derive(Clone, Debug, Serialize)]
pub struct Identity {
    /// Of the programs that compute.
    pub versions: Versions,
    /// SHA-256 of the model's files: weights, configuration and tokenizer.
    pub model_sha256: String,
    /// SHA-256 of the chat template; absent where there is none, or where texts are used as they are.
    pub template_sha256: Option<String>,
    /// SHA-256 of the contexts, the questions and their answers.
    pub samples_sha256: String,
    /// SHA-256 of the files of side data that the presses have read, by name; absent where they read none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub side_data_sha256: BTreeMap<String, String>,
    /// The device that was found.
    pub device: String,
    /// The number format that was chosen for it.
    pub dtype: String,
    /// The experiment as resolved for the model.
    #[serde(flatten)]
    pub plan: Value,
}

/// Versions of the programs that compute.
#[derive(Clone, Debug, Serialize)]
pub struct Versions {
    /// Pressroom.
    pub pressroom: &'static str,
    /// libtorch, where it tells.
    pub libtorch: Option<String>,
}

impl Versions {
    /// Of this process.
    pub fn of_process() -> Self {
        let libtorch = pressroom::pipeline::Libtorch::loaded().and_then(|loaded| loaded.release);
        Self { pressroom: env!("CARGO_PKG_VERSION"), libtorch }
    }
}

/// SHA-256 of the JSON of something.
///
/// # Errors
/// It cannot be written as JSON.
pub fn digest(content: &impl Serialize) -> Result<String> {
    let mut hash = Sha256::new();
    serde_json::to_writer(&mut hash, content).map_err(|error| Error::input(error.to_string()))?;
    Ok(format!("{:x}", hash.finalize()))
}

/// Where two JSON values differ, a line for each place: its keys, what was there and what is there now.
pub fn differences(before: &Value, now: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(String::new(), Some(before), Some(now), &mut found);
    found
}

fn compare(place: String, before: Option<&Value>, now: Option<&Value>, found: &mut Vec<String>) {
    match (before, now) {
        (Some(Value::Object(before)), Some(Value::Object(now))) => {
            let added = now.keys().filter(|key| !before.contains_key(*key));
            for key in before.keys().chain(added) {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                compare(place, before.get(key), now.get(key), found);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(now))) if before.len() == now.len() => {
            for (index, (before, now)) in before.iter().zip(now).enumerate() {
                compare(format!("{place}[{index}]"), Some(before), Some(now), found);
            }
        }
        _ if before == now => {}
        _ => found.push(format!("{place}: {} before, {} now", shown(before), shown(now))),
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "nothing".into(),
        Some(Value::Array(items)) => format!("{} entries", items.len()),
        Some(Value::Object(_)) => "a table".into(),
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_named_by_their_keys() {
        let before =
            json!({"task": {"name": "needle", "samples": 3}, "sessions": [{"ratio": 0.5}], "seed": 1, "x": null});
        let now =
            json!({"task": {"name": "needle", "samples": 4}, "sessions": [{"ratio": 0.7}], "seed": 1, "raw": true});
        assert_eq!(
            differences(&before, &now),
            [
                "task.samples: 3 before, 4 now",
                "sessions[0].ratio: 0.5 before, 0.7 now",
                "x: null before, nothing now",
                "raw: nothing before, true now"
            ]
        );
        assert_eq!(differences(&json!([1, 2]), &json!([1])), [": 2 entries before, 1 entries now"]);
        assert!(differences(&before, &before).is_empty());
    }

    #[test]
    fn equal_content_has_an_equal_digest() {
        assert_eq!(digest(&["a", "b"]).unwrap(), digest(&vec!["a".to_owned(), "b".to_owned()]).unwrap());
        assert_ne!(digest(&["a", "b"]).unwrap(), digest(&["ab"]).unwrap());
    }
}
