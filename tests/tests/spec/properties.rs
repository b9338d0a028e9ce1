//! Whatever the bytes, reading them ends in a value or in a report whose places exist.

use pressroom::Error;
use pressroom::plan::Plan;
use pressroom::spec::{Spec, apply_overrides};
use proptest::prelude::*;

use crate::support::{EVERYTHING, config, registry, tasks};

/// Line and column of every place of a report.
fn places(report: &str) -> Vec<(usize, usize)> {
    let lines = report.lines().filter_map(|line| line.trim_start().strip_prefix("--> test.toml:"));
    lines.map(|place| place.split_once(':').unwrap()).map(|(l, c)| (l.parse().unwrap(), c.parse().unwrap())).collect()
}

fn check(text: &str) {
    let registry = registry();
    let report = match Spec::parse(text, "test.toml", &registry, &tasks()) {
        Ok(spec) => {
            assert!(spec.warnings.to_string().lines().all(|line| !line.starts_with("error")));
            match Plan::resolve(&spec, &config(4)) {
                Ok(plan) => return assert!(plan.to_json().is_ok()),
                Err(Error::Spec(report)) => report,
                Err(other) => panic!("not a report: {other}"),
            }
        }
        Err(Error::Spec(report)) => report,
        Err(other) => panic!("not a report: {other}"),
    };
    assert!(!report.is_empty());
    let plain = report.to_string();
    let places = places(&plain);
    assert!(!places.is_empty(), "no place in {plain}");
    let lines: Vec<&str> = text.split('\n').collect();
    for (line, column) in places {
        assert!((1..=lines.len()).contains(&line), "line {line} of {}", lines.len());
        assert!((1..=lines[line - 1].chars().count() + 1).contains(&column), "column {column} of line {line}");
    }
    report.render(true);
    if let Err(error) = Spec::parse_pipeline(text, "test.toml", &registry) {
        assert!(matches!(error, Error::Spec(_)), "not a report: {error}");
    }
}

/// A token that makes other TOML of TOML.
fn token() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\"",
        "'''",
        "#",
        "\n",
        "\r\n",
        "nan",
        "inf",
        "-1",
        "1.0",
        "0x1F",
        "1979-05-27",
        "true",
        "[model]",
        "[[press]]",
        "name",
        "press = { name = \"norm\" }",
        "chain = []",
        "é",
        "🦀",
        "\t",
        "compression_ratio",
        "99999999999999999999",
        "1e999",
        "\"\\u001b[31m\"",
    ];
    prop_oneof![4 => proptest::sample::select(KNOWN).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)]
}

/// A part of a path that leads somewhere.
fn key() -> impl Strategy<Value = String> {
    proptest::sample::select(&["press", "0", "1", "task", "samples", "compression_ratio", "name"][..])
        .prop_map(str::to_owned)
}

/// What is removed and inserted, and where.
fn edit() -> impl Strategy<Value = (prop::sample::Index, usize, String)> {
    (any::<prop::sample::Index>(), 0usize..12, token())
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_tokens(tokens in proptest::collection::vec(token(), 0..40)) {
        check(&tokens.concat());
    }

    #[test]
    fn a_valid_file_changed(changes in proptest::collection::vec(edit(), 1..5)) {
        let mut text: Vec<char> = EVERYTHING.chars().collect();
        for (at, removed, inserted) in changes {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, inserted.chars());
        }
        check(&text.into_iter().collect::<String>());
    }

    #[test]
    fn any_override(path in proptest::collection::vec(prop_oneof![token(), key()], 1..5), new in token()) {
        let change = format!("{}={new}", path.join("."));
        if let Ok(text) = apply_overrides(EVERYTHING, &[change]) {
            check(&text);
        }
    }
}

#[test]
fn deep_nesting_is_refused() {
    check(&format!("x = {}", "[".repeat(100_000)));
    check(&format!("x = {}", "{ a = ".repeat(100_000)));
    check(&format!("[{}]", vec!["a"; 10_000].join(".")));
}

#[test]
fn a_thousand_mistakes_are_counted_and_a_hundred_shown() {
    let text: String = (0..1000).map(|i| format!("key{i} = 1\n")).collect();
    let Err(error) = Spec::parse(&text, "test.toml", &registry(), &tasks()) else { panic!("unknown keys were read") };
    assert!(error.to_string().ends_with("and 903 more; 1003 mistakes in test.toml"), "{error}");
}
