//! The JSON Schema of experiments says what the parser says, wherever a schema can.

use std::path::{Path, PathBuf};

use jsonschema::Validator;
use pressroom::press::{Budgeting, Entry, ParamInfo, ParamType, PressInfo, Registry, Wraps};
use pressroom::spec::{Spec, schema};
use serde_json::Value;

use crate::support::{EVERYTHING, registry, tasks};

/// What only the parser tells: it depends on more than one place of the file, on files, or on a press's own code.
const BEYOND: [&str; 12] = [
    "cache-and-sweep",
    "cache-swept-no-ratio",
    "file-nothing-to-run",
    "plan-list-length",
    "plan-per-layer-length",
    "press-chain-head-wise-first",
    "press-chain-no-ratio",
    "press-label-by-default-twice",
    "press-label-twice",
    "press-param-refused",
    "press-ratio-missing",
    "sweep-changes-nothing",
];

fn validator(registry: &Registry) -> Validator {
    jsonschema::draft7::meta::validate(&schema(registry, &tasks())).unwrap();
    jsonschema::validator_for(&schema(registry, &tasks())).unwrap()
}

/// The TOML as the JSON that an editor checks; `None` if it is no TOML.
fn json(text: &str) -> Option<Value> {
    toml::from_str::<toml::Table>(text).ok().map(|table| serde_json::to_value(table).unwrap())
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

#[test]
fn golden_mistakes_are_mistakes_of_the_schema_too() {
    let validator = validator(&registry());
    assert!(validator.is_valid(&json(EVERYTHING).unwrap()));
    let (mut seen, mut wrong) = (Vec::new(), Vec::new());
    for path in files("tests/golden/spec") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let Some(json) = json(&text).filter(|_| !name.starts_with("pipeline-")) else { continue };
        if validator.is_valid(&json) != BEYOND.contains(&name.as_str()) {
            wrong.push(name.clone());
        }
        seen.push(name);
    }
    assert!(wrong.is_empty(), "the schema and the list above differ on {wrong:?}");
    assert!(BEYOND.iter().all(|name| seen.iter().any(|seen| seen == name)), "a case is gone");
}

/// An experiment around the text of one `[[press]]`.
fn around(press: &str) -> String {
    format!(
        "model = {{ path = 'm' }}\ntask = {{ name = 'needle' }}\nrun = {{ output = 'x' }}\nsweep = {{ compression_ratio = [0.5] }}\npress = [{press}]\n"
    )
}

/// Values that a parameter may and may not have.
fn tried(param: &ParamInfo) -> Vec<String> {
    let (min, max) = (param.range.min, param.range.max);
    let mut values: Vec<String> = ["true", "'text'", "0.5", "3", "[1]", "{}"].map(String::from).to_vec();
    values.extend(param.choices.iter().map(|choice| format!("'{choice}'")));
    if matches!(param.kind, ParamType::Integer | ParamType::Number) {
        let ends = [min - 1.0, min, max, max + 1.0].into_iter().filter(|end| end.abs() < 1e15);
        values.extend(
            ends.map(|end| if param.kind == ParamType::Integer { format!("{end:.0}") } else { format!("{end:?}") }),
        );
    }
    values
}

/// What `info` wraps, each by a press of the registry that fits, one that wraps nothing if there is one.
fn wraps(info: &PressInfo, registry: &Registry) -> String {
    let inner = |wraps: &Wraps| {
        let fitting = registry.entries().map(Entry::info).filter(|inner| wraps.accepts_kind(inner.kind));
        let inner = fitting.min_by_key(|inner| inner.wraps.len()).unwrap();
        format!(", {} = {{ name = '{}'{} }}", wraps.key, inner.name, self::wraps(inner, registry))
    };
    info.wraps.iter().map(inner).collect()
}

#[test]
fn schema_and_parser_agree_on_every_press_parameter_and_wrapper() {
    let registry = pressroom_presses::registry().unwrap();
    let validator = validator(&registry);
    let mut cases = 0;
    let mut check = |press: String| {
        let text = around(&press);
        let parsed = Spec::parse(&text, "x", &registry, &tasks()).map_err(|error| error.to_string());
        let valid = validator.is_valid(&json(&text).unwrap());
        cases += 1;
        match (parsed, valid) {
            (Ok(_), true) | (Err(_), false) => {}
            (Ok(_), false) => panic!("the schema refuses {press}"),
            (Err(told), true) => {
                // A press's own code may refuse what its description allows; the parser has these words for the rest.
                let parsers = ["unknown", "allowed is", "takes no", " is a ", "either", "empty", "at least", "wraps"];
                let first = told.lines().next().unwrap();
                assert!(!parsers.iter().any(|word| first.contains(word)), "the schema takes {press}: {told}");
            }
        }
    };
    for info in registry.entries().map(Entry::info) {
        let (name, inner) = (&info.name, wraps(info, &registry));
        check(format!("{{ name = '{name}'{inner} }}"));
        check(format!("{{ name = '{name}'{inner}, nothing_of_the_kind = 1 }}"));
        for budget in [
            "compression_ratio = 0.5",
            "compression_ratio = 1",
            "budget = 64",
            "budget = 0",
            "budget = [1, 2]",
            "compression_ratio = { from = 0.1, to = 0.5 }",
            "compression_ratio = { from = 0.1 }",
            "compression_ratio = 0.5, budget = 64",
            "compression_ratio = []",
            "label = 'x'",
            "label = ' x'",
            "label = 'none'",
        ] {
            check(format!("{{ name = '{name}'{inner}, {budget} }}"));
        }
        let ratio = if info.budgeting == Budgeting::Given { ", compression_ratio = 0.5" } else { "" };
        check(format!("{{ chain = [{{ name = '{name}'{inner}{ratio} }}] }}"));
        check(format!("{{ name = 'composed', presses = [{{ name = '{name}'{inner}{ratio} }}] }}"));
        check(format!(
            "{{ name = 'per_layer_compression', press = {{ name = '{name}'{inner} }}, compression_ratios = [0.5] }}"
        ));
        for param in &info.params {
            for value in tried(param) {
                check(format!("{{ name = '{name}'{inner}, {} = {value} }}", param.name));
            }
        }
        for other in registry.entries().map(Entry::info) {
            let inside = wraps(other, &registry);
            check(format!("{{ name = '{name}', press = {{ name = '{}'{inside} }} }}", other.name));
            for wraps in &info.wraps {
                check(format!("{{ name = '{name}', {} = {{ name = '{}'{inside} }} }}", wraps.key, other.name));
            }
        }
    }
    assert!(cases > 3000, "{cases}");
}

#[test]
fn names_of_plugins_are_for_files_with_plugins() {
    let validator = validator(&registry());
    let plugin = "[[plugin]]\npath = 'libx.so'\n";
    for press in [
        "{ name = 'theirs', x = 1 }",
        "{ name = 'heads', press = { name = 'theirs' } }",
        "{ chain = [{ name = 'theirs' }] }",
    ] {
        let text = around(press);
        assert!(!validator.is_valid(&json(&text).unwrap()), "{press}");
        assert!(validator.is_valid(&json(&format!("{text}{plugin}")).unwrap()), "{press}");
    }
    let bad = around("{ name = 'heads', press = { name = 'norm', x = 1 } }");
    assert!(!validator.is_valid(&json(&format!("{bad}{plugin}")).unwrap()));
}
