//! The JSON Schema that editors read is the one that the program prints, and all experiments of this repository follow it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn printed() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pressroom")).arg("schema").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `PRESSROOM_BLESS=1` writes the file anew.
#[test]
fn the_schema_in_the_documentation_is_what_the_program_prints() {
    let path = root().join("docs/experiment.schema.json");
    if std::env::var_os("PRESSROOM_BLESS").is_some() {
        std::fs::write(&path, printed()).unwrap();
    }
    let hint = "docs/experiment.schema.json is out of date: pressroom schema > docs/experiment.schema.json";
    assert!(std::fs::read_to_string(&path).unwrap_or_default() == printed(), "{hint}");
}

#[test]
fn every_configuration_names_the_schema_and_follows_it() {
    let schema: Value = serde_json::from_str(&printed()).unwrap();
    jsonschema::draft7::meta::validate(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let entries = std::fs::read_dir(root().join("experiments/configs")).unwrap();
    let mut configurations: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    configurations.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    assert!(configurations.len() >= 2);
    for path in configurations {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("#:schema ../../docs/experiment.schema.json\n"), "{}", path.display());
        let json = serde_json::to_value(toml::from_str::<toml::Table>(&text).unwrap()).unwrap();
        let errors: Vec<String> = validator.iter_errors(&json).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
    }
}
