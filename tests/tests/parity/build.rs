//! Presses from the tables of the golden files.

use std::path::Path;

use pressroom::press::{Built, Params, Registry, Value};

/// The parameters of a press, as they stand in JSON.
pub type Table = serde_json::Map<String, serde_json::Value>;

/// The press called `name` with the parameters of `table`, around the presses that its tables describe.
pub fn build(registry: &Registry, name: &str, table: &Table) -> Built {
    let entry = registry.find(name).unwrap_or_else(|| panic!("there is no press {name}"));
    let inner = entry.info().wraps.iter().map(|wraps| named(registry, &table[wraps.key])).collect();
    entry.build(&params(table), inner).unwrap_or_else(|error| panic!("{name} {table:?}: {error}"))
}

/// The press with what a golden case gives beside its parameters: a seed for its random numbers, a folder of side data.
pub fn build_with(
    registry: &Registry,
    name: &str,
    table: &Table,
    seed: Option<u64>,
    side_data: Option<&Path>,
) -> Built {
    let mut table = table.clone();
    let params = &registry.find(name).unwrap_or_else(|| panic!("there is no press {name}")).info().params;
    let takes = |name: &str| params.iter().any(|param| param.name == name);
    if let Some(seed) = seed.filter(|_| takes("seed")) {
        table.insert("seed".into(), seed.into());
    }
    if let Some(folder) = side_data.filter(|_| takes("side_data")) {
        table.insert("side_data".into(), folder.to_str().unwrap().into());
    }
    build(registry, name, &table)
}

/// The press that a table with a `name` describes; a ratio in it is the outer press's to set.
fn named(registry: &Registry, table: &serde_json::Value) -> Built {
    let mut table = table.as_object().unwrap().clone();
    let name = table.remove("name").unwrap();
    table.remove("compression_ratio");
    build(registry, name.as_str().unwrap(), &table)
}

/// The parameters of a table, without the presses in it.
pub fn params(table: &Table) -> Params {
    let value = |value: &serde_json::Value| {
        Some(match value {
            serde_json::Value::Bool(flag) => Value::Flag(*flag),
            serde_json::Value::Number(number) => {
                number.as_i64().map_or(Value::Number(number.as_f64().unwrap()), Value::Integer)
            }
            serde_json::Value::String(text) => Value::Text(text.clone()),
            serde_json::Value::Object(_) | serde_json::Value::Null => return None,
            other => panic!("{other} is no parameter"),
        })
    };
    table.iter().filter_map(|(name, given)| Some((name.clone(), value(given)?))).collect()
}
