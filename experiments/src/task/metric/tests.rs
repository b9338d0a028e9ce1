//! The metrics beside the published implementations (`tests/golden/metrics.py`), and the strict readings.

use super::*;

#[derive(Deserialize)]
struct Case {
    metric: Metric,
    prediction: String,
    answers: Vec<String>,
    score: f64,
}

#[test]
fn scores_are_those_of_the_published_implementations() {
    let published = |json| -> Vec<Case> { serde_json::from_str(json).unwrap() };
    let mut cases = published(include_str!("../../../../tests/golden/metrics.json"));
    cases.extend(published(include_str!("../../../../tests/golden/zeroscrolls.json")));
    let mut wrong = Vec::new();
    for Case { metric, prediction, answers, score } in &cases {
        let ours = metric.score(prediction, answers);
        if (ours - score).abs() > 1e-9 {
            wrong.push(format!("{metric:?} of {prediction:?} for {answers:?}: {ours}, published {score}"));
        }
    }
    assert!(cases.len() > 150);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn score(metric: &Metric, prediction: &str, answer: &str) -> f64 {
    metric.score(prediction, &[answer.to_owned()])
}

#[test]
fn contained_answers_count_whatever_the_case() {
    let answers = ["Lisbon".to_owned(), "42".to_owned()];
    assert_eq!(Metric::StringMatch.score("It is LISBON.", &answers), 0.5);
    assert_eq!(Metric::StringMatch.score("42, lisbon", &answers), 1.0);
    assert_eq!(Metric::AnyMatch.score("It is LISBON.", &answers), 1.0);
    assert_eq!(Metric::Contains.score("It is LISBON.", &answers), 0.0);
    for metric in [Metric::StringMatch, Metric::AnyMatch, Metric::QaF1, Metric::NumberPrefix] {
        assert_eq!(metric.score("anything", &[]), 0.0);
        assert_eq!(metric.score("", &answers), 0.0);
    }
}

#[test]
fn only_the_first_line_counts_where_it_is_asked_for() {
    let metric = Metric::FirstLine(Box::new(Metric::QaF1));
    assert_eq!(score(&metric, "\nGeneva\nPassage: Geneva and more", "Geneva"), 1.0);
    assert_eq!(score(&metric, "Bern\nGeneva", "Geneva"), 0.0);
}

#[test]
fn clozes_are_filled_in_either_quotes() {
    let answer = r#"{"<mask-0>": "O'Neill", "<mask-1>": "Ghent"}"#;
    assert_eq!(score(&Metric::Cloze, r#"{'<mask-0>': "O'Neill", '<mask-1>': 'Ghent'}"#, answer), 1.0);
    assert_eq!(score(&Metric::Cloze, r#"{"<mask-0>": "O'Neill", "<mask-1>": "Gent"}"#, answer), 0.5);
    assert_eq!(score(&Metric::Cloze, r#"{"<mask-0>": None, "<mask-1>": 'Ghent',}"#, answer), 0.5);
    for none in ["The masks are O'Neill and Ghent", r#"{"<mask-0>": "O'Neill" "<mask-1>": "Ghent"}"#, "['Ghent']", ""] {
        assert_eq!(score(&Metric::Cloze, none, answer), 0.0, "{none}");
    }
}

#[test]
fn a_strict_reading_gives_no_credit_for_rambling() {
    let strict = |metric: &Metric, prediction: &str, answer: &str| metric.strict(prediction, &[answer.to_owned()]);
    for (metric, right, rambling, answer) in [
        (Metric::StringMatch, "The number is 712.", "1, 2, 3\n712", "712"),
        (Metric::StringMatch, "712", "71204", "712"),
        (Metric::AnyMatch, "It was Geneva, he said", "Genevan", "Geneva"),
        (Metric::QaF1, "the Geneva.", "Geneva or Bern", "Geneva"),
        (Metric::Choice, "The correct answer is (B)", "B, because The correct answer is (B)", "B"),
        (Metric::OptionOrText, "B.", "B or C", "B"),
        (Metric::Count, "7", "7 of 8", "7"),
        (Metric::Mathematics, "\\boxed{0.5}", "\\boxed{\\frac{1}{2}}", "0.5"),
        (Metric::FirstLine(Box::new(Metric::QaF1)), "Geneva\nand on", "Geneva, see\nGeneva", "Geneva"),
    ] {
        assert_eq!(strict(&metric, right, answer), 1.0, "{metric:?} of {right}");
        assert_eq!(strict(&metric, rambling, answer), 0.0, "{metric:?} of {rambling}");
        assert!(metric.score(rambling, &[answer.to_owned()]) > 0.0, "{metric:?} of {rambling}");
    }
}

#[test]
fn names_are_metrics() {
    for name in Metric::CHOICES {
        let metric = Metric::from_value(Value::Text((*name).into())).unwrap();
        assert_eq!(metric.to_value(), Some(Value::Text((*name).into())));
    }
    assert_eq!(Metric::from_value(Value::Text("accuracy".into())), None);
}
