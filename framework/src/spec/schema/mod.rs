//! The JSON Schema of an experiment: what editors complete and check.
//!
//! Of the sections it says what their readers ask for ([`sections`]), of presses and tasks what their
//! descriptions say ([`presses`], [`params`]), so that it cannot tell another story than the parser. What depends on more than one place (labels
//! that occur twice, a press that no ratio reaches, what can follow what in a chain) only the parser tells.

mod params;
mod presses;
mod sections;

use serde_json::{Map, Value, json};

use super::TaskInfo;
use crate::press::Registry;

/// The schema, in the draft that TOML editors read (7), for experiments with the presses of `registry` and with `tasks`.
/// Presses of plugins are in it if their plugins are in the registry; a file with `[[plugin]]` may name others too.
pub fn schema(registry: &Registry, tasks: &[TaskInfo]) -> Value {
    let presses = json!({ "type": "array", "items": reference("configured") });
    let mut properties = sections::sections(tasks);
    properties
        .insert("press".into(), described(presses, "What is compared: a method, a wrapper around one, or a chain."));
    let required: Vec<&str> = sections::REQUIRED.to_vec();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Pressroom experiment",
        "description": "Which model answers which questions through which presses. Printed by `pressroom schema`.",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
        "if": { "not": { "required": ["plugin"] } },
        "then": { "properties": { "press": { "items": reference("known") } } },
        "definitions": presses::definitions(registry),
    })
}

/// The schema called `name` in the definitions.
fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/definitions/{name}") })
}

/// `schema` with a text for its reader in front.
fn described(schema: Value, text: &str) -> Value {
    let mut all = Map::from_iter([("description".to_owned(), Value::from(text))]);
    if let Value::Object(schema) = schema {
        all.extend(schema);
    }
    Value::Object(all)
}

/// A table with these keys and no others.
fn table(properties: Map<String, Value>, required: &[&str]) -> Value {
    let mut schema =
        Map::from_iter([("type".to_owned(), json!("object")), ("properties".to_owned(), properties.into())]);
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    schema.insert("additionalProperties".into(), json!(false));
    schema.into()
}
