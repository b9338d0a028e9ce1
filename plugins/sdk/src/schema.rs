//! A press's description, from the one struct that declares its parameters.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

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
    properties.values_mut().filter_map(Value::as_object_mut).for_each(tidy);
    (doc, json!({ "type": "object", "properties": properties }).to_string())
}

/// Leaves out what says nothing to the host: how wide the number is in Rust, an absent default.
fn tidy(property: &mut Map<String, Value>) {
    property.remove("format");
    if property.get("default").is_some_and(Value::is_null) {
        property.remove("default");
    }
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
            "seed": { "description": "A seed.", "type": ["integer", "null"], "minimum": 0 },
        }});
        assert_eq!(params, expected);
        let names: Vec<_> = params["properties"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["whole", "number", "flag", "choice", "seed"]);
    }
}
