//! Sections of the schema. Each reader reads a table that says next to nothing, and what it asked for is the schema.

use serde_json::{Map, Value, json};
use toml::de::DeTable;

use super::params::parameter;
use super::{described, reference, table};
use crate::cache::{Bits, Quantization};
use crate::spec::cache::{FULL, quantization};
use crate::spec::plugin::plugin;
use crate::spec::report::Mistakes;
use crate::spec::sections::{ModelSpec, RunSpec, SweepSpec};
use crate::spec::table::{Key, Table, Takes};
use crate::spec::task::{FILE, TaskInfo, TaskSpec};

/// Sections that every experiment has.
pub(super) const REQUIRED: [&str; 3] = ["model", "task", "run"];

/// What the keys are for, as `section.key`.
const DOCS: &[(&str, &str)] = &[
    ("model", "What answers."),
    ("model.path", "A name known to `pressroom model list`, a folder in Hugging Face layout, or ORG/NAME of the hub."),
    ("model.device", "Where the model runs, or a table of the layers on each device; cpu unless told otherwise."),
    ("model.dtype", "Number format; auto takes bf16 where the hardware has bf16 arithmetic, else f32."),
    ("task", "What is asked."),
    ("task.question", "hidden: asked after compression; visible: inside the compressed text."),
    ("task.max_new_tokens", "Most tokens of an answer; the task or the file decides unless told otherwise."),
    ("task.raw", "Use contexts as they are, without the model's chat template."),
    ("plugin", "Libraries whose presses the file names."),
    ("plugin.path", "The library."),
    ("plugin.sha256", "The SHA-256 that the library has to have, 64 hexadecimal digits."),
    ("plugin.isolated", "Run the plugin in a process of its own."),
    ("plugin.time_limit_s", "Seconds that a call of an isolated plugin may take."),
    ("plugin.memory_limit_mib", "MiB of memory that an isolated plugin may take."),
    ("sweep", "What is compared of every press that leaves it open: ratios, and how its cache is stored."),
    ("sweep.compression_ratio", "Fractions removed, each of which is a session of its own."),
    ("sweep.cache", "How caches are stored, each of which is a session of its own."),
    ("cache", "How what is kept is stored in fewer bits."),
    ("cache.bits", "Bits of a number."),
    ("cache.group", "Tokens (of values: channels) that share a step and a zero; 64 unless told otherwise."),
    ("cache.residual", "Fewest tokens at the end of each KV head that stay as they are; 128 unless told otherwise."),
    (
        "cache.keys",
        "What shares the step of keys: a channel's tokens (KIVI; unless told otherwise), or a token's channels.",
    ),
    ("cache.hadamard", "Rotate keys and values first, so that no channel is much larger than the others."),
    ("run", "How the experiment runs and where its results go."),
    ("run.output", "Folder for the results."),
    ("run.baseline", "Whether the uncompressed baseline is part of the run; it is unless told otherwise."),
    ("run.seed", "Decides everything random."),
    ("run.memory", "Memory that the run may take, as in 8GiB; what the machine has left unless told otherwise."),
    ("run.selections", "Whether what presses kept is stored, for `pressroom show`."),
    ("run.threads", "Threads of the processor; libtorch decides unless told otherwise."),
];

/// All sections but the presses, by their names.
pub(super) fn sections(infos: &[TaskInfo]) -> Map<String, Value> {
    let tasks: Vec<Value> = infos.iter().map(|info| task(info, infos)).collect();
    let plugin = asked("isolated = true", |table, mistakes| plugin(table, &Default::default(), mistakes));
    let schemas = [
        ("plugin", json!({ "type": "array", "items": plugin_limits(keys("plugin", &plugin)) })),
        ("model", keys("model", &asked("", ModelSpec::read))),
        ("task", json!({ "oneOf": tasks })),
        ("sweep", either(keys("sweep", &asked("", SweepSpec::read)), ["compression_ratio", "cache"])),
        ("cache", cache()),
        ("run", keys("run", &asked("", RunSpec::read))),
    ];
    schemas.map(|(name, schema)| (name.to_owned(), described(schema, doc(name)))).into_iter().collect()
}

/// A table of how numbers are stored in fewer bits.
fn cache() -> Value {
    keys("cache", &asked("", quantization))
}

/// Either way to store a cache.
pub(super) fn storage() -> Value {
    described(json!({ "anyOf": [{ "const": FULL }, cache()] }), "How what is kept is stored.")
}

/// What `read` asks of a table that holds `seed`.
fn asked<T>(seed: &str, read: impl Fn(Table<'_>, &mut Mistakes) -> T) -> Vec<Key> {
    let (entries, _) = DeTable::parse_recoverable(seed);
    let table = Table::new("a table", 0..0, entries.get_ref());
    let asked = table.asked();
    read(table, &mut Mistakes::default());
    asked.take()
}

/// `[task]` with one of the tasks: what all of them have, and its parameters.
fn task(info: &TaskInfo, all: &[TaskInfo]) -> Value {
    let common = asked(&format!("name = \"{}\"", info.name), |table, mistakes| TaskSpec::read(table, all, mistakes));
    let common: Vec<Key> = common.into_iter().filter(|key| key.name != "name").collect();
    let mut schema = keys("task", &common);
    schema["properties"]["name"] = json!({ "const": info.name });
    for param in &info.params {
        schema["properties"][&param.name] = parameter(param);
    }
    // Samples of a file need no name.
    schema["required"] = json!([if info.name == FILE { FILE } else { "name" }]);
    described(schema, info.doc.lines().next().unwrap_or_default())
}

/// The table of a section.
fn keys(section: &str, asked: &[Key]) -> Value {
    let mut properties = Map::new();
    for key in asked {
        let path = format!("{section}.{}", key.name);
        if let Some(schema) = value(&path, &key.takes) {
            properties.insert(key.name.clone(), described(schema, doc(&path)));
        }
    }
    let required: Vec<&str> = asked.iter().filter(|key| key.required).map(|key| key.name.as_str()).collect();
    table(properties, &required)
}

/// The value of a key; `None` if the reader only looks whether it is there.
fn value(path: &str, takes: &Takes) -> Option<Value> {
    Some(match takes {
        Takes::Node if path == "sweep.compression_ratio" => {
            json!({ "type": "array", "items": reference("ratio"), "minItems": 1, "uniqueItems": true })
        }
        Takes::Node if path == "sweep.cache" => {
            json!({ "type": "array", "items": reference("storage"), "minItems": 1, "uniqueItems": true })
        }
        Takes::Node | Takes::Table => return None,
        Takes::Whole(_) if path == "cache.bits" => json!({ "enum": Bits::ALL.map(Bits::count) }),
        Takes::Whole(range) if path == "cache.group" => {
            json!({ "type": "integer", "minimum": Quantization::GROUP_UNIT, "maximum": range.end(),
                "multipleOf": Quantization::GROUP_UNIT })
        }
        Takes::Text if path == "plugin.sha256" => json!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" }),
        Takes::Text => json!({ "type": "string", "minLength": 1 }),
        Takes::Choice(names, Some(pattern)) if path == "model.device" => {
            let layers = json!({ "type": "integer", "minimum": 1, "maximum": 4096 });
            let map = json!({
                "type": "object",
                "patternProperties": { "^(cpu|cuda:(0|[1-9][0-9]{0,4}))$": layers },
                "additionalProperties": false,
            });
            json!({ "anyOf": [{ "enum": names }, { "type": "string", "pattern": pattern }, map] })
        }
        Takes::Choice(names, None) => json!({ "enum": names }),
        Takes::Choice(names, Some(pattern)) => {
            json!({ "anyOf": [{ "enum": names }, { "type": "string", "pattern": pattern }] })
        }
        Takes::Whole(range) => json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() }),
        Takes::Flag => json!({ "type": "boolean" }),
    })
}

/// A table with one of `keys`, or both.
fn either(mut table: Value, keys: [&str; 2]) -> Value {
    table["anyOf"] = keys.map(|key| json!({ "required": [key] })).to_vec().into();
    table
}

/// Limits need a process of its own.
fn plugin_limits(mut plugin: Value) -> Value {
    let isolated = json!({ "properties": { "isolated": { "const": true } }, "required": ["isolated"] });
    plugin["dependencies"] = json!({ "time_limit_s": isolated, "memory_limit_mib": isolated });
    plugin
}

fn doc(path: &str) -> &'static str {
    DOCS.iter().find(|(known, _)| *known == path).map_or("", |(_, doc)| doc)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Descriptions of a section's keys, alternatives included.
    fn described(section: &str, schema: &Value, found: &mut Vec<String>) {
        for schema in schema["oneOf"].as_array().into_iter().flatten().chain([&schema["items"], schema]) {
            for (key, value) in schema["properties"].as_object().into_iter().flatten() {
                assert!(
                    value["const"].is_string() || value["description"] != "",
                    "DOCS has no line for {section}.{key}"
                );
                found.push(format!("{section}.{key}"));
            }
        }
    }

    fn tasks() -> Vec<TaskInfo> {
        vec![TaskInfo { name: "needle".into(), doc: "A needle.".into(), params: Vec::new() }]
    }

    #[test]
    fn every_key_is_described_and_every_description_is_a_keys() {
        let mut found = Vec::new();
        for (section, schema) in sections(&tasks()) {
            assert_ne!(schema["description"], "", "DOCS has no line for {section}");
            described(&section, &schema, &mut found);
            found.push(section);
        }
        for (path, _) in DOCS {
            assert!(found.iter().any(|found| found == path), "{path} is no key");
        }
    }

    #[test]
    fn every_section_that_the_parser_knows_is_in_the_schema() {
        let told =
            crate::spec::Spec::parse("nothing_of_the_kind = 1", "x", &crate::press::Registry::default(), &tasks());
        let told = told.err().unwrap().to_string();
        let known = told.lines().find_map(|line| line.split_once("known: ")).unwrap().1;
        let mut known: Vec<&str> = known.split(", ").collect();
        let sections = sections(&tasks());
        let mut ours: Vec<&str> = sections.keys().map(String::as_str).chain(["press"]).collect();
        known.sort_unstable();
        ours.sort_unstable();
        assert_eq!(known, ours);
    }
}
