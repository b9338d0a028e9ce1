//! Parameters as JSON Schema: the subset that the interface knows.

use pressroom::press::{Budgeting, Kind, ParamInfo, ParamType, PressInfo, Range, Value};
use serde_json::{Map, Value as Json};

use crate::describe::Description;

/// Keys of a parameter that are read.
const KNOWN: [&str; 7] = ["type", "description", "default", "minimum", "maximum", "unit", "enum"];

/// Names that mean something else in the table of a press.
const TAKEN: [&str; 6] = ["name", "press", "chain", "label", "budget", "compression_ratio"];

/// The parameters of an object schema, in its order.
///
/// # Errors
/// What is outside the subset, or contradicts itself.
pub(crate) fn parameters(schema: &str) -> Result<Vec<ParamInfo>, String> {
    let schema: Json = serde_json::from_str(schema).map_err(|error| format!("its parameters are no JSON: {error}"))?;
    let object = schema.as_object().filter(|schema| schema.get("type").and_then(Json::as_str) == Some("object"));
    let properties = object.and_then(|schema| schema.get("properties")).and_then(Json::as_object);
    let properties = properties.ok_or("its parameters are no object schema with `properties`")?;
    properties
        .iter()
        .map(|(name, property)| {
            let property = property.as_object().ok_or_else(|| format!("parameter `{name}` is no schema"))?;
            parameter(name, property).map_err(|problem| format!("parameter `{name}` {problem}"))
        })
        .collect()
}

fn parameter(name: &str, property: &Map<String, Json>) -> Result<ParamInfo, String> {
    if let Some(unknown) = property.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(format!("says `{unknown}`, which this host does not read; known are {}", KNOWN.join(", ")));
    }
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(letters) {
        return Err("has a name that is not letters, digits and underscores".into());
    }
    if TAKEN.contains(&name) {
        return Err("has a name that means something else in TOML".into());
    }
    let text = |key: &str| property.get(key).and_then(Json::as_str).unwrap_or_default();
    let (kind, optional) = kind(property.get("type"))?;
    let bound = |key: &str, otherwise: f64| match property.get(key) {
        None => Ok(otherwise),
        Some(bound) => bound.as_f64().ok_or_else(|| format!("has a `{key}` that is no number")),
    };
    let choices = match property.get("enum") {
        None => Vec::new(),
        Some(choices) => choices_of(choices).ok_or("has an `enum` that is no list of texts")?,
    };
    let range = Range { min: bound("minimum", f64::MIN)?, max: bound("maximum", f64::MAX)? };
    if range.min > range.max {
        return Err(format!("has the range {range}, which is empty"));
    }
    let unit = text("unit");
    let mut doc = text("description").to_owned();
    if !unit.is_empty() {
        doc = format!("{doc} In {unit}.");
    }
    let default =
        property.get("default").map(|default| value(default).ok_or("has a default that is no value")).transpose()?;
    if default.is_none() && !optional {
        return Err(
            "has no default (in Rust: `#[serde(default)]`), and its type does not include null (`Option`)".into()
        );
    }
    let mut info = ParamInfo { name: name.to_owned(), doc, kind, default: None, range, choices, many: false };
    if let Some(default) = default {
        info.default =
            Some(info.accept(default).map_err(|problem| format!("has a default that it does not accept: {problem}"))?);
    }
    Ok(info)
}

/// The type, and whether the parameter may be absent.
fn kind(written: Option<&Json>) -> Result<(ParamType, bool), String> {
    let names: Vec<&str> = match written {
        Some(Json::String(name)) => vec![name],
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
        _ => return Err("has no type".into()),
    };
    let types: Vec<&str> = names.iter().copied().filter(|name| *name != "null").collect();
    let kind = match types[..] {
        ["integer"] => ParamType::Integer,
        ["number"] => ParamType::Number,
        ["boolean"] => ParamType::Flag,
        ["string"] => ParamType::Text,
        _ => return Err(format!("has the type {}, known are integer, number, boolean and string", names.join(" or "))),
    };
    Ok((kind, types.len() < names.len()))
}

fn choices_of(json: &Json) -> Option<Vec<String>> {
    json.as_array()?.iter().map(|choice| choice.as_str().map(str::to_owned)).collect()
}

fn value(json: &Json) -> Option<Value> {
    match json {
        Json::Bool(flag) => Some(Value::Flag(*flag)),
        Json::String(text) => Some(Value::Text(text.clone())),
        Json::Number(number) => number.as_i64().map(Value::Integer).or_else(|| number.as_f64().map(Value::Number)),
        _ => None,
    }
}

/// A description as the framework's.
pub(crate) fn info(description: &Description, params: Vec<ParamInfo>) -> PressInfo {
    PressInfo {
        name: description.name.clone(),
        kind: if description.is_scorer() { Kind::Scorer } else { Kind::Press },
        doc: description.doc.clone(),
        params,
        wraps: Vec::new(),
        budgeting: Budgeting::default(),
    }
}
