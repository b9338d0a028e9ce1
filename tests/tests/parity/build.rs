//! Presses from the tables of the golden files.

use pressroom::press::{Built, Params, Registry, Value};

/// The parameters of a press, as they stand in JSON.
pub type Table = serde_json::Map<String, serde_json::Value>;

/// The press called `name` with the parameters of `table`, around the scorer that `table.press` describes.
pub fn build(registry: &Registry, name: &str, table: &Table) -> Built {
    let inner = table.get("press").map(|inner| match named(registry, inner) {
        Built::Scorer(scorer) => scorer,
        Built::Press(press) => panic!("{} is no scorer", press.identity()),
    });
    registry.find(name).unwrap().build(&params(table), inner).unwrap()
}

/// The press that a table with a `name` describes.
fn named(registry: &Registry, table: &serde_json::Value) -> Built {
    let mut table = table.as_object().unwrap().clone();
    let name = table.remove("name").unwrap();
    build(registry, name.as_str().unwrap(), &table)
}

fn params(table: &Table) -> Params {
    let value = |value: &serde_json::Value| match value {
        serde_json::Value::Bool(flag) => Value::Flag(*flag),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or(Value::Number(number.as_f64().unwrap()), Value::Integer)
        }
        other => panic!("{other} is no parameter"),
    };
    table.iter().filter(|(name, _)| *name != "press").map(|(name, given)| (name.clone(), value(given))).collect()
}
