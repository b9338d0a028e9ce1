//! The page with hostile labels and answers, and its size.

use super::*;
use crate::report::{compare, figures};

const HOSTILE: &str = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}";

fn written(answers: usize, label: &str) -> String {
    let run = crate::report::testing::run(answers, label);
    let comparisons = compare(std::slice::from_ref(&run));
    let drawn: Vec<Vec<Figure>> = comparisons.iter().map(figures).collect();
    page(std::slice::from_ref(&run), &comparisons, &drawn).unwrap()
}

#[test]
fn nothing_of_a_run_becomes_markup() {
    let page = written(40, HOSTILE);
    assert_eq!(page.matches("<script").count(), 2, "the data and the page's own script");
    assert!(!page.contains("<img") && page.contains("{{ 7*7 }}"), "labels are text, not templates either");
    assert!(page.contains("&lt;&#x2f;script&gt;&lt;script&gt;alert(1)"));
    let data = page.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert!(data["presses"].as_array().unwrap().iter().any(|press| press[0] == HOSTILE));
}

#[test]
fn ten_thousand_answers_fit() {
    let page = written(10_000, "snapkv");
    assert!(page.len() < 1_500_000, "{} bytes", page.len());
    for outside in ["http://", "https://", "url(", "@import", "src="] {
        let found = page.replace("http://www.w3.org/2000/svg", "").contains(outside);
        assert!(!found, "the page holds {outside}");
    }
}

#[test]
fn the_policy_names_what_is_there() {
    let page = written(10, "knorm");
    for text in [STYLE, SCRIPT] {
        assert!(page.contains(&hash(text)) && page.contains(text));
    }
    assert!(page.contains("default-src 'none'") && !page.contains("unsafe-inline") && !page.contains(" style="));
}
