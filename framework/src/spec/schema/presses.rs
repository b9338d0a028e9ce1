//! Presses of the schema, from the descriptions in the registry.

use serde_json::{Map, Value, json};

use super::params::parameter;
use super::sections::storage;
use super::{described, reference, table};
use crate::press::{Budgeting, Entry, Kind, PressInfo, Registry};
use crate::spec::budget::SHAPES;
use crate::spec::spelling::{CHAIN, PER_LAYER};

/// What a press cannot have inside another one, because the outer one has it.
const OUTER_ONLY: [&str; 4] = ["label", "cache", "compression_ratio", "budget"];

/// Schemas that others refer to.
pub(super) fn definitions(registry: &Registry) -> Map<String, Value> {
    let infos: Vec<&PressInfo> = registry.entries().map(Entry::info).collect();
    let mut all = budgets();
    let presses = infos.iter().map(|info| reference(&definition(&info.name)));
    let presses: Vec<Value> = presses.chain([reference("per_layer"), reference("foreign")]).collect();
    let chains = ["chain", "composed"].map(reference);
    all.insert("configured".into(), json!({ "oneOf": presses.iter().chain(&chains).collect::<Vec<_>>() }));
    all.insert("stage".into(), json!({ "properties": { "label": false, "cache": false }, "oneOf": presses }));
    all.insert("chain".into(), chain("chain", None));
    all.insert("composed".into(), chain("presses", Some(CHAIN)));
    all.insert("per_layer".into(), per_layer());
    all.insert("with_budget".into(), wrapped(&infos, |info| info.budgeting == Budgeting::Given));
    for wraps in infos.iter().flat_map(|info| &info.wraps) {
        all.insert(inner(wraps.kind), wrapped(&infos, |info| wraps.accepts_kind(info.kind)));
    }
    all.insert("known".into(), known(&infos));
    all.insert("storage".into(), storage());
    all.insert("foreign".into(), foreign(&infos));
    all.extend(infos.iter().map(|info| (definition(&info.name), press(info))));
    all
}

fn definition(press: &str) -> String {
    format!("press_{press}")
}

fn inner(kind: Kind) -> String {
    format!("inner_{kind:?}").to_lowercase()
}

fn budgets() -> Map<String, Value> {
    let per_layer =
        |one: &str| json!({ "anyOf": [reference(one), { "type": "array", "items": reference(one), "minItems": 1 }] });
    let ends = ["from", "to"].map(|end| (end.to_owned(), reference("ratio")));
    let shape = ("shape".to_owned(), json!({ "enum": SHAPES }));
    let schedule = table(ends.into_iter().chain([shape]).collect(), &["from", "to"]);
    let mut ratios = per_layer("ratio");
    if let Some(forms) = ratios["anyOf"].as_array_mut() {
        forms.push(described(schedule, "In equal steps from the first layer to the last."));
    }
    let ratio = json!({ "type": "number", "minimum": 0, "exclusiveMaximum": 1 });
    let schemas = [
        ("ratio", described(ratio, "The fraction removed.")),
        ("compression_ratio", described(ratios, "The fraction removed: one, one per layer, or a schedule.")),
        ("tokens", json!({ "type": "integer", "minimum": 1 })),
        ("budget", described(per_layer("tokens"), "Tokens that each KV head keeps: one number, or one per layer.")),
    ];
    schemas.map(|(name, schema)| (name.to_owned(), schema)).into_iter().collect()
}

/// The keys that every `[[press]]` may have.
fn common() -> [(String, Value); 2] {
    let label = json!({ "type": "string", "pattern": "^\\S([^\\u0000-\\u001f]*\\S)?$", "not": { "pattern": format!("^{}( \\+ |$)", crate::plan::BASELINE) } });
    [("label", described(label, "What results call the press.")), ("cache", reference("storage"))]
        .map(|(name, schema)| (name.to_owned(), schema))
}

fn press(info: &PressInfo) -> Value {
    let mut properties = Map::from_iter([("name".to_owned(), json!({ "const": info.name }))]);
    properties.extend(info.wraps.iter().map(|wraps| (wraps.key.to_owned(), reference(&inner(wraps.kind)))));
    properties.extend(info.params.iter().map(|param| (param.name.clone(), parameter(param))));
    if info.budgeting == Budgeting::Given {
        let budgets = ["compression_ratio", "budget"];
        properties.extend(budgets.map(|name| (name.to_owned(), reference(name))));
    }
    properties.extend(common());
    let required: Vec<&str> = ["name"].into_iter().chain(info.wraps.iter().map(|wraps| wraps.key)).collect();
    let mut schema = described(table(properties, &required), &doc(info));
    if info.budgeting == Budgeting::Given {
        schema["not"] = json!({ "required": ["compression_ratio", "budget"] });
    }
    schema
}

fn doc(info: &PressInfo) -> String {
    [Some(info.summary().to_owned()), info.section("Idea")].into_iter().flatten().collect::<Vec<_>>().join("\n\n")
}

/// A press inside another one.
fn wrapped(infos: &[&PressInfo], fits: impl Fn(&PressInfo) -> bool) -> Value {
    let fitting = infos.iter().filter(|info| fits(info)).map(|info| reference(&definition(&info.name)));
    let outer: Map<String, Value> = OUTER_ONLY.map(|key| (key.to_owned(), json!(false))).into_iter().collect();
    json!({ "properties": outer, "oneOf": fitting.chain([reference("foreign")]).collect::<Vec<_>>() })
}

/// Presses one after another, under the key `key`.
fn chain(key: &str, name: Option<&str>) -> Value {
    let presses = json!({ "type": "array", "items": reference("stage"), "minItems": 1 });
    let name = name.map(|name| ("name".to_owned(), json!({ "const": name })));
    let required: Vec<&str> = name.iter().map(|_| "name").chain([key]).collect();
    let properties = name.clone().into_iter().chain([(key.to_owned(), presses)]).chain(common()).collect();
    described(table(properties, &required), "Presses one after another; each sees what the one before has left.")
}

fn per_layer() -> Value {
    let ratios = json!({ "type": "array", "items": reference("ratio"), "minItems": 1 });
    let properties = [
        ("name".to_owned(), json!({ "const": PER_LAYER })),
        ("press".to_owned(), reference("with_budget")),
        ("compression_ratios".to_owned(), described(ratios, "One for each layer.")),
    ];
    let schema = table(properties.into_iter().chain(common()).collect(), &["name", "press", "compression_ratios"]);
    described(schema, "kvpress's spelling of a press with `compression_ratio = [..]`.")
}

/// Every name that this schema knows.
fn names(infos: &[&PressInfo]) -> Value {
    infos.iter().map(|info| info.name.as_str()).chain([CHAIN, PER_LAYER]).collect()
}

/// A press of a plugin: its parameters are unknown here.
fn foreign(infos: &[&PressInfo]) -> Value {
    let name = json!({ "type": "string", "not": { "enum": names(infos) } });
    json!({ "type": "object", "properties": { "name": name }, "required": ["name"] })
}

/// Only names that this schema knows, however deep.
fn known(infos: &[&PressInfo]) -> Value {
    let mut properties = Map::from_iter([("name".to_owned(), json!({ "enum": names(infos) }))]);
    properties.extend(["chain", "presses"].map(|key| (key.to_owned(), json!({ "items": reference("known") }))));
    let inner = infos.iter().flat_map(|info| &info.wraps).map(|wraps| wraps.key).chain(["press"]);
    properties.extend(inner.map(|key| (key.to_owned(), reference("known"))));
    json!({ "properties": properties })
}
