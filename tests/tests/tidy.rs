//! The house rules, as far as a program can check them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Rust sources outside build outputs, with their path from the root.
fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> = ["kernels", "framework", "presses", "plugins", "experiments", "tests"]
        .iter()
        .map(|name| root().join(name))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(found.len() > 40);
    found
}

/// The part of a file before its unit tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

fn is_test(name: &str) -> bool {
    name.starts_with("tests/") || name.contains("/tests") || name.ends_with("/testing.rs") || name.contains("/benches/")
}

#[test]
fn every_module_says_what_it_is() {
    for (name, text) in sources() {
        assert!(text.starts_with("//! "), "{name} does not start with a `//!` line");
    }
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let mut lengths = Vec::new();
    for (name, text) in sources().iter().filter(|(name, _)| !is_test(name)) {
        let lines = code(text).lines().count();
        assert!(lines <= 600, "{name} has {lines} lines without its tests");
        lengths.push(lines);
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= 150, "the median file has {median} lines");
}

#[test]
fn unsafe_code_stays_where_it_is_allowed() {
    for (name, text) in sources().iter().filter(|(name, _)| !is_test(name)) {
        let allowed = name.starts_with("kernels/")
            || ["plugins/abi/", "plugins/sdk/", "plugins/host/"].iter().any(|folder| name.starts_with(folder))
            || name == "framework/src/model/mapped.rs";
        let unsafe_lines = text.lines().filter(|line| line.contains("unsafe {") || line.contains("unsafe fn"));
        assert!(allowed || unsafe_lines.count() == 0, "{name} holds unsafe code");
    }
    for root_file in ["presses/src/lib.rs", "experiments/src/lib.rs", "experiments/src/main.rs"] {
        assert!(sources()[root_file].contains("#![forbid(unsafe_code)]"), "{root_file} does not forbid unsafe code");
    }
}

#[test]
fn nothing_unwraps_outside_tests() {
    for (name, text) in sources().iter().filter(|(name, _)| !is_test(name)) {
        for (number, line) in code(text).lines().enumerate() {
            let line = line.trim_start();
            let found = [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!("]
                .iter()
                .find(|word| line.contains(**word));
            assert!(line.starts_with("//") || found.is_none(), "{name}:{}: {line}", number + 1);
        }
    }
}

#[test]
fn the_framework_knows_no_press_by_name() {
    let registry = pressroom_presses::registry().unwrap();
    for (name, text) in sources().iter().filter(|(name, _)| name.starts_with("framework/src") && !is_test(name)) {
        let code: Vec<&str> = code(text).lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        // `random` is also the name of the module of seeded tensors.
        for press in registry.names().filter(|press| *press != "random") {
            let found = code.iter().find(|line| line.contains(&format!("\"{press}\"")));
            assert!(found.is_none(), "{name} names the press {press}: {found:?}");
        }
    }
}

#[test]
fn every_press_file_is_listed_and_documented() {
    let registry = pressroom_presses::registry().unwrap();
    let names: Vec<&str> = registry.names().collect();
    for (name, text) in sources() {
        let Some(file) = name.strip_prefix("presses/src/").and_then(|file| file.strip_suffix(".rs")) else { continue };
        let declares = text.contains("pressroom::press! {");
        assert!(!declares || names.contains(&file), "presses/src/{file}.rs is no press of the registry");
    }
    for entry in registry.entries() {
        let info = entry.info();
        for section in ["Idea", "Formula", "Paper"] {
            let text = info.section(section).unwrap_or_default();
            assert!(!text.is_empty(), "{} has no section {section}", info.name);
        }
        assert!(info.summary().ends_with('.'), "{}: the summary is no sentence", info.name);
        assert!(info.params.iter().all(|param| !param.doc.is_empty()), "{} has an undocumented parameter", info.name);
    }
}

#[test]
fn the_words_of_the_field_are_used() {
    // Each beside the word that is used instead.
    let avoided = [
        ("retained tokens", "kept"),
        ("dropped tokens", "evicted"),
        ("pruning ratio", "compression ratio"),
        ("compressor", "press"),
    ];
    for (name, text) in sources().iter().filter(|(name, _)| !name.ends_with("tidy.rs")) {
        for (word, instead) in avoided {
            assert!(!text.to_lowercase().contains(word), "{name} says {word:?}; the word is {instead:?}");
        }
    }
}

#[test]
fn documents_are_there_and_their_links_lead_somewhere() {
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            let local = !path.is_empty() && !path.contains("://");
            assert!(!local || root().join(path).exists(), "{document} links to {path}");
        }
    }
}
