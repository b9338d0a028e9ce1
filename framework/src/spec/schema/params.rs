//! Parameters of presses and tasks, from their descriptions.

use serde_json::{Value, json};

use super::described;
use crate::press::{ParamInfo, ParamType};

/// What a parameter's value may be.
pub(super) fn parameter(param: &ParamInfo) -> Value {
    let mut one = json!({ "type": match param.kind {
        ParamType::Integer => "integer",
        ParamType::Number => "number",
        ParamType::Flag => "boolean",
        ParamType::Text => "string",
    } });
    if matches!(param.kind, ParamType::Integer | ParamType::Number) {
        for (key, end, open) in [("minimum", param.range.min, f64::MIN), ("maximum", param.range.max, f64::MAX)] {
            if end != open {
                one[key] = number(end);
            }
        }
    }
    if !param.choices.is_empty() {
        one["enum"] = json!(param.choices);
    }
    let schema =
        if param.many { json!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] }) } else { one };
    let mut schema = described(schema, &param.doc.replace('\n', " "));
    if let Some(default) = &param.default {
        schema["default"] = json!(default);
    }
    schema
}

/// Whole where it is whole: 1, not 1.0.
fn number(value: f64) -> Value {
    let whole = value as i64;
    if whole as f64 == value { json!(whole) } else { json!(value) }
}
