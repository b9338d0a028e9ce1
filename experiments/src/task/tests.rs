//! The generated tasks at a small size, and what holds for all tasks.

use pressroom::pipeline::Regime;
use pressroom::press::{ParamValue, Value};

use super::testing::words;
use super::*;

fn spec(name: &str, params: &[(&str, Value)]) -> TaskSpec {
    let params = params.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    TaskSpec { name: name.into(), params, question: Regime::Hidden, max_new_tokens: None, raw: false }
}

fn made(spec: &TaskSpec) -> Vec<Sample> {
    all(samples(spec, Setting { tokenizer: &words(), seed: 42 }).unwrap()).unwrap()
}

fn facets(samples: &[Sample], name: &str) -> Vec<f64> {
    samples.iter().map(|sample| sample.facets[name]).collect()
}

#[test]
fn every_task_has_a_name_a_summary_and_documented_parameters() {
    let tasks = tasks();
    for task in &tasks {
        assert!(task.doc.lines().next().unwrap().ends_with(['.', ';']) || task.doc.contains(".\n"), "{}", task.name);
        assert!(task.params.iter().all(|param| !param.doc.is_empty()), "{}", task.name);
        assert_eq!(tasks.iter().filter(|other| other.name == task.name).count(), 1);
    }
    let page = include_str!("../../../docs/tasks.md");
    for task in &tasks {
        assert!(
            page.contains(&format!("`{}`", task.name)) || task.name == "file",
            "docs/tasks.md does not tell of {}",
            task.name
        );
        for param in &task.params {
            let name = &param.name;
            assert!(page.contains(&format!("`{name}")) || page.contains(&format!("{name} =")), "docs/tasks.md: {name}");
        }
    }
    for metric in Metric::CHOICES {
        assert!(page.contains(&format!("`{metric}`")), "docs/tasks.md does not tell of {metric}");
    }
    let error = samples(&spec("neddle", &[]), Setting { tokenizer: &words(), seed: 1 }).unwrap_err().to_string();
    assert!(error.contains("no task `neddle`"));
}

#[test]
fn needles_lie_on_a_grid_of_lengths_and_depths() {
    let lengths = Value::List(vec![Value::Integer(100), Value::Integer(300)]);
    let grid = spec(
        "needle",
        &[
            ("context_tokens", lengths.clone()),
            ("depths", vec![0.0, 0.5, 1.0].to_value().unwrap()),
            ("samples", Value::Integer(2)),
        ],
    );
    let grid = made(&grid);
    assert_eq!(facets(&grid, "length"), [[100.0; 6], [300.0; 6]].concat());
    assert_eq!(facets(&grid, "depth"), [0.0, 0.0, 0.5, 0.5, 1.0, 1.0].repeat(2));
    let tokenizer = words();
    for sample in &grid {
        let length = tokenizer.encode(&sample.context).unwrap().len() as f64;
        assert!(length <= sample.facets["length"] && length > 0.75 * sample.facets["length"]);
        let answer = &sample.turns[0].answers[0];
        let place = sample.context.find(answer).unwrap() as f64 / sample.context.len() as f64;
        assert!((place - sample.facets["depth"]).abs() < 0.25, "{place} for {:?}", sample.facets);
    }
    let spread = made(&spec("needle", &[("context_tokens", lengths), ("samples", Value::Integer(3))]));
    assert_eq!(facets(&spread, "depth"), [0.0, 0.5, 1.0, 0.0, 0.5, 1.0]);
}

#[test]
fn haystacks_are_made_of_the_files_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "Whales sing.\nWhales sleep! ".repeat(9)).unwrap();
    let place = Value::Text(folder.path().to_str().unwrap().into());
    for task in ["needle", "unlike", "instructions", "synthetic"] {
        let length = Value::List(vec![Value::Integer(600)]);
        let samples = made(&spec(
            task,
            &[("haystack", place.clone()), ("context_tokens", length), ("samples", Value::Integer(1))],
        ));
        assert!(samples.iter().any(|sample| sample.context.contains("Whales sing. Whales sleep!")), "{task}");
    }
}

#[test]
fn rules_are_tested_one_by_one() {
    let samples =
        made(&spec("instructions", &[("context_tokens", Value::Integer(400)), ("samples", Value::Integer(2))]));
    assert_eq!(samples.len(), 2);
    for sample in &samples {
        assert_eq!((sample.turns.len(), sample.facets["rules"]), (8, 8.0));
        for (at, turn) in sample.turns.iter().enumerate() {
            let rule = sample.context.lines().find(|line| line.contains(&turn.answers[0])).unwrap();
            assert!(rule.starts_with(&format!("{}. When somebody ", at + 1)), "{rule}");
        }
    }
}

#[test]
fn continuations_follow_their_contexts() {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..500).map(|number| format!("word{number} ")).collect();
    let file = folder.path().join("text.txt");
    std::fs::write(&file, &text).unwrap();
    let of_file = |context: i64| {
        spec(
            "continuation",
            &[
                ("text", Value::Text(file.to_str().unwrap().into())),
                ("context_tokens", Value::Integer(context)),
                ("continuation_tokens", Value::Integer(50)),
                ("samples", Value::Integer(3)),
            ],
        )
    };
    let samples = made(&of_file(100));
    assert_eq!(samples.len(), 3);
    for (sample, start) in samples.iter().zip([0, 175, 350]) {
        assert!(sample.context.starts_with(&format!("word{start} ")), "{}", sample.context);
        assert_eq!(sample.context.split_whitespace().count(), 100);
        assert_eq!(
            sample.turns[0].answers[0].split_whitespace().next(),
            Some(format!("word{}", start + 100)).as_deref()
        );
        assert_eq!(sample.turns[0].answers[0].split_whitespace().count(), 50);
        assert!(
            sample.turns[0].is_continuation() && text.contains(&(sample.context.clone() + &sample.turns[0].answers[0]))
        );
    }
    let error = super::samples(&of_file(1000), Setting { tokenizer: &words(), seed: 1 }).unwrap_err().to_string();
    assert!(error.contains("text.txt: has 500 tokens, 1050 are due"), "{error}");
    let most = TaskSpec { max_new_tokens: Some(3), ..spec("continuation", &[("samples", Value::Integer(2))]) };
    let prose = made(&most);
    assert!(prose.len() == 2 && prose.iter().all(|sample| sample.turns[0].max_new_tokens == 256));
}
