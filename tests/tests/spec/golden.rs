//! Every kind of mistake with the text that the user reads: `golden/spec/*.toml` with its `.txt` beside it.
//!
//! `PRESSROOM_BLESS=1 cargo test -p pressroom-tests --test spec` writes the texts anew; read the difference.
//! Files called `pipeline-*` are read as pipelines, `plan-*` are also resolved for a model of four layers.

use std::path::{Path, PathBuf};

use pressroom::plan::Plan;
use pressroom::spec::Spec;

use crate::support::{config, registry, tasks};

fn told(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let registry = registry();
    if name.starts_with("pipeline-") {
        return match Spec::parse_pipeline(&text, name, &registry) {
            Ok(_) => "no mistake".into(),
            Err(error) => error.to_string(),
        };
    }
    match Spec::parse(&text, name, &registry, &tasks()) {
        Err(error) => error.to_string(),
        Ok(spec) if name.starts_with("plan-") => match Plan::resolve(&spec, &config(4)) {
            Ok(_) => "no mistake".into(),
            Err(error) => error.to_string(),
        },
        Ok(spec) if spec.warnings.is_empty() => "no mistake".into(),
        Ok(spec) => spec.warnings.to_string(),
    }
}

#[test]
fn mistakes_are_told_in_these_words() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/spec");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    cases.sort();
    assert!(cases.len() >= 40, "only {} cases", cases.len());
    let bless = std::env::var_os("PRESSROOM_BLESS").is_some();
    let mut wrong = Vec::new();
    for case in cases {
        let told = told(&case) + "\n";
        assert_ne!(told, "no mistake\n", "{}", case.display());
        assert!(told.contains(&format!("--> {}:", case.file_name().unwrap().to_str().unwrap())), "no place: {told}");
        let expected = case.with_extension("txt");
        if bless {
            std::fs::write(&expected, told).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != told {
            wrong.push(format!("{} tells\n{told}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_terminal_gets_the_same_text_in_colour() {
    let Err(pressroom::Error::Spec(report)) = Spec::parse("[modle]", "x.toml", &registry(), &tasks()) else {
        panic!("a file without sections was read")
    };
    let coloured = report.render(true);
    assert!(coloured.contains("\u{1b}["));
    assert!(!report.render(false).contains('\u{1b}'));
    let mut plain = String::new();
    for (i, part) in coloured.split('\u{1b}').enumerate() {
        plain.push_str(if i == 0 { part } else { part.split_once('m').unwrap().1 });
    }
    assert_eq!(plain, report.to_string());
}
