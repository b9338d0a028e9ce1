//! SCBench: many turns on one context, each answered from the same compressed cache.

use pressroom::Result;
use pressroom::pipeline::Truncation;
use serde_json::Value;

use super::row::Row;
use super::source::{Kind, prompt, published};
use crate::task::{Facets, Metric, Sample, Samples, Setting, Turn};

published! {
    /// SCBench (Li et al., 2024, <https://arxiv.org/abs/2412.10319>): several questions about one shared context.
    ///
    /// Reads its own files (`context`, `multi_turns`), in its mode of many requests: every question goes to the
    /// compressed context, none sees another's answer. A context that is too long loses its middle. Its functions to
    /// repeat (`repoqa`) are scored by ROUGE-L here, not by its parser's search for the nearest function.
    "scbench" ScBench "microsoft/SCBench"
}

const fn kind(name: &'static str, max_new_tokens: usize, metric: Metric, prompt: &'static str) -> Kind {
    Kind { name, prompt, max_new_tokens, metric, held_by }
}

/// Files name the task after `scbench_` or `multi_turn_`.
fn held_by(name: &str) -> &str {
    ["scbench_", "multi_turn_"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

const OBJECT: &str =
    "Extract the value corresponding to the specified key in the JSON object below.\n\n{context}\n\n|{input}|";
const PLAIN: &str = "{context}\n\n|{input}|";

const KINDS: [Kind; 12] = [
    kind("kv", 150, Metric::Contains, OBJECT),
    kind("prefix_suffix", 150, Metric::Contains, PLAIN),
    kind("vt", 30, Metric::StringMatch, PLAIN),
    kind(
        "qa_eng",
        40,
        Metric::Name,
        "Read the book and answer the question. Be very concise in your answer.\n\n{context}\n\n|Question: {input}\n|Answer:",
    ),
    kind("qa_chn", 40, Metric::CharacterF1, "阅读以下书籍然后回答问题。\n\n{context}\n\n|问题：{input}\n|答案："),
    kind(
        "choice_eng",
        40,
        Metric::OptionOrText,
        "Read the book and answer the question.\n\n{context}\n\n|Question: {input}\n\n|The the correct answer is",
    ),
    kind("many_shot", 10, Metric::Name, PLAIN),
    kind("mf", 5, Metric::FirstNumber, PLAIN),
    kind("summary", 200, Metric::RougeLsum, PLAIN),
    kind(
        "repoqa",
        1024,
        Metric::RougeL,
        "Based on the function description and code context, please retrieve and repeat the exact described function from the code context in a code block wrapped by ```:\n\n{context}\n\n|{input}|",
    ),
    kind("summary_with_needles", 800, Metric::RougeLsum, PLAIN),
    kind("repoqa_and_kv", 1024, Metric::RougeL, PLAIN),
];

impl ScBench {
    fn samples(&self, _: Setting<'_>) -> Result<Samples> {
        self.source().samples(&KINDS, sample)
    }
}

fn sample(kind: &Kind, row: &Row) -> Result<Sample> {
    let text = row.text(if row.has("context") { "context" } else { "input" })?;
    let asked = row.objects("multi_turns")?;
    let turns = asked.iter().map(|asked| turn(kind, asked)).collect::<Result<Vec<_>>>()?;
    let (mut context, _, _) = prompt(kind.prompt, text, "");
    // The list of numbers comes after the first question.
    if kind.name == "mf"
        && let Some(first) = asked.first()
    {
        context = format!("{}\n\n{context}", first.text("input")?);
    }
    let facets = Facets::from([("turns".into(), turns.len() as f64)]);
    Ok(Sample { context, turns, task: format!("scbench_{}", kind.name), facets, truncation: Truncation::Middle })
}

fn turn(kind: &Kind, asked: &Row) -> Result<Turn> {
    let answers = asked.texts(if asked.has("answer") { "answer" } else { "ground_truth" })?;
    let options = match asked.get("options") {
        Some(Value::Array(items)) if !items.is_empty() => asked.texts("options")?,
        _ => Vec::new(),
    };
    let mut input = asked.text("input")?.to_owned();
    for (letter, option) in ('A'..='D').zip(&options) {
        input += &format!("\n{letter}. {option}");
    }
    if kind.name == "mf" {
        input = format!("What is {}?\n\n{input}", target(asked, &input)?);
    }
    let (_, question, answer_prefix) = prompt(kind.prompt, "", &input);
    // Turns of mixed tasks say of which they are, and the short ones have limits of their own.
    let (metric, max_new_tokens) = match asked.optional_text("task")? {
        Some("scbench_passkey") => (Metric::FirstDigits, 15),
        Some("scbench_kv") => (Metric::Contains, 80),
        _ => (kind.metric.clone(), kind.max_new_tokens),
    };
    let answers = match &metric {
        Metric::OptionOrText => with_letter(answers, &options),
        _ => answers,
    };
    Ok(Turn { question, answer_prefix, answers, max_new_tokens, metric })
}

/// What is to be found in a list: `the largest number` of `The largest number is:`.
fn target(row: &Row, input: &str) -> Result<String> {
    let start = input.find("The ").map(|at| &input[at..]);
    let line = start.and_then(|start| start.lines().next());
    let target = line.and_then(|line| line.rfind(" is").map(|end| line[..end].to_lowercase()));
    target.ok_or_else(|| row.bad("`input` names no number to find (The ... is)"))
}

/// The right option's text and letter, of which a file gives one.
fn with_letter(mut answers: Vec<String>, options: &[String]) -> Vec<String> {
    let answer = answers.swap_remove(0);
    let place = options.iter().position(|option| *option == answer).or_else(|| "ABCD".find(&answer));
    let found = place.and_then(|place| Some((options.get(place)?, "ABCD".get(place..=place)?)));
    found.map_or(vec![answer], |(option, letter)| vec![option.clone(), letter.to_owned()])
}
