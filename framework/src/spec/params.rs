//! The parameters of a press or a task in its table.

use toml::de::DeValue;

use super::report::Mistakes;
use super::table::{Node, Table, integer, kind, number};
use crate::press::{ParamInfo, Params, Value};

/// The parameters of `known` that `table` gives; those that it gives wrongly are mistakes.
pub(super) fn params(table: &mut Table<'_>, known: &[ParamInfo], mistakes: &mut Mistakes) -> Params {
    let mut params = Params::new();
    for param in known {
        let Some(node) = table.get(&param.name) else { continue };
        match value(node, param.many).map_or_else(|| Err(type_mistake(param, node)), |value| param.accept(value)) {
            Ok(value) => {
                params.insert(param.name.clone(), value);
            }
            Err(problem) => {
                mistakes.add(node.span(), problem).help(param.doc.replace('\n', " "));
            }
        }
    }
    params
}

fn value(node: &Node<'_>, many: bool) -> Option<Value> {
    match node.get_ref() {
        DeValue::Boolean(flag) => Some(Value::Flag(*flag)),
        DeValue::String(text) => Some(Value::Text(text.to_string())),
        DeValue::Integer(_) => integer(node).map(Value::Integer),
        DeValue::Float(_) => number(node).map(Value::Number),
        DeValue::Array(items) if many => {
            items.iter().map(|item| value(item, false)).collect::<Option<_>>().map(Value::List)
        }
        _ => None,
    }
}

fn type_mistake(param: &ParamInfo, node: &Node<'_>) -> String {
    let name = &param.name;
    match node.get_ref() {
        DeValue::Integer(integer) => format!("`{name}` is {integer}, which is too large"),
        DeValue::Array(_) if param.many => format!("`{name}` holds something else than {}", param.kind),
        other => format!("`{name}` is {}, not {}", param.kind, kind(other)),
    }
}
