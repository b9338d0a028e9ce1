//! A press's description, from the one struct that declares its parameters.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// Documentation in Markdown and parameters as JSON Schema of `P`.
pub(crate) fn describe<P: JsonSchema>() -> (String, String) {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let schema = settings.into_generator().into_root_schema_for::<P>();
    let take = |key: &str| schema.get(key).cloned();
    let doc = take("description").and_then(|doc| doc.as_str().map(str::to_owned)).unwrap_or_default();
    let mut properties = take("properties").and_then(|found| found.as_object().cloned()).unwrap_or_default();
    properties.values_mut().for_each(tidy);
    (doc, json!({ "type": "object", "properties": properties }).to_string())
}

/// Puts a parameter as the interface has it: without the width of its number in Rust or a default that is absent, and
/// with the variants of an enum in one list.
fn tidy(property: &mut Value) {
    let variants = variants(property).unwrap_or_default();
    let optional = variants.iter().any(|(name, _)| name.is_null());
    let Some(property) = property.as_object_mut() else { return };
    property.remove("format");
    if property.get("default").is_some_and(Value::is_null) {
        property.remove("default");
    }
    if variants.is_empty() {
        return;
    }
    property.retain(|key, _| !["oneOf", "anyOf"].contains(&key.as_str()));
    property.entry("type").or_insert(if optional { json!(["string", "null"]) } else { json!("string") });
    let mut doc = property.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    let named = || variants.iter().filter_map(|(name, comment)| Some((name.as_str()?, comment)));
    for (name, comment) in named().filter(|(_, comment)| !comment.is_empty()) {
        doc += &format!(" `{name}`: {comment}");
    }
    let names: Vec<&str> = named().map(|(name, _)| name).collect();
    property.insert("description".into(), doc.trim().into());
    property.insert("enum".into(), names.into());
}

/// The names of an enum's variants with their comments, null among them where there may be none; `None` if the
/// property is something else.
fn variants(schema: &Value) -> Option<Vec<(Value, String)>> {
    let comment = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    if let Some(name) = schema.get("const") {
        return Some(vec![(name.clone(), comment.to_owned())]);
    }
    if let Some(names) = schema.get("enum").and_then(Value::as_array) {
        return Some(names.iter().map(|name| (name.clone(), String::new())).collect());
    }
    if schema.get("type").and_then(Value::as_str) == Some("null") {
        return Some(vec![(Value::Null, String::new())]);
    }
    let alternatives = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
    let each: Option<Vec<_>> = alternatives.iter().map(variants).collect();
    Some(each?.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps what it keeps.
    ///
    /// # Idea
    /// None, on
    /// two lines.
    #[derive(Default, serde::Deserialize, JsonSchema)]
    #[serde(default)]
    struct Every {
        /// A whole number.
        #[schemars(range(min = 1, max = 9), extend("unit" = "tokens"))]
        whole: usize,
        /// A number.
        number: f64,
        /// A flag.
        flag: bool,
        /// One of two.
        choice: Choice,
        /// One of two, or none.
        perhaps: Option<Choice>,
        /// One that says more.
        told: Told,
        /// One that says more, or none.
        told_perhaps: Option<Told>,
        /// A seed.
        seed: Option<u64>,
    }

    #[derive(Clone, Copy, Default, serde::Serialize, serde::Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Choice {
        #[default]
        Mean,
        Max,
    }

    #[derive(Clone, Copy, Default, serde::Serialize, serde::Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Told {
        /// What is usual.
        #[default]
        Mean,
        Max,
    }

    #[test]
    fn the_struct_is_the_description() {
        let (doc, params) = describe::<Every>();
        assert_eq!(doc, "Keeps what it keeps.\n\n# Idea\nNone, on\ntwo lines.");
        let params: Value = serde_json::from_str(&params).unwrap();
        let expected = json!({ "type": "object", "properties": {
            "whole": { "description": "A whole number.", "type": "integer", "minimum": 1, "maximum": 9, "default": 0, "unit": "tokens" },
            "number": { "description": "A number.", "type": "number", "default": 0.0 },
            "flag": { "description": "A flag.", "type": "boolean", "default": false },
            "choice": { "description": "One of two.", "type": "string", "enum": ["mean", "max"], "default": "mean" },
            "perhaps": { "description": "One of two, or none.", "type": ["string", "null"], "enum": ["mean", "max"] },
            "told": { "description": "One that says more. `mean`: What is usual.", "type": "string", "enum": ["max", "mean"],
                "default": "mean" },
            "told_perhaps": { "description": "One that says more, or none. `mean`: What is usual.",
                "type": ["string", "null"], "enum": ["max", "mean"] },
            "seed": { "description": "A seed.", "type": ["integer", "null"], "minimum": 0 },
        }});
        assert_eq!(params, expected);
        let names: Vec<_> = params["properties"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["whole", "number", "flag", "choice", "perhaps", "told", "told_perhaps", "seed"]);
    }
}
