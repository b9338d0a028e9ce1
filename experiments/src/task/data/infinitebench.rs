//! InfiniteBench, with the prompts and lengths of its authors (those for `yarn-mistral`).

use std::sync::LazyLock;

use pressroom::Result;
use pressroom::pipeline::Truncation;
use regex::Regex;

use super::columns;
use super::row::Row;
use super::source::{Kind, prompt, published};
use crate::task::{Facets, Metric, Sample, Samples, Setting, Turn};

published! {
    /// InfiniteBench (Zhang et al., 2024, <https://arxiv.org/abs/2402.13718>): twelve tasks on about 100k tokens.
    ///
    /// Reads its own JSONL (`context`, `input`, `answer`, `options`) or kvpress's conversion. A context that is too long
    /// loses its middle.
    "infinitebench" InfiniteBench "xinrongzhang2022/InfiniteBench"
}

const fn kind(name: &'static str, max_new_tokens: usize, metric: Metric, prompt: &'static str) -> Kind {
    Kind { name, prompt, max_new_tokens, metric, held_by: |name| name }
}

const KINDS: [Kind; 12] = [
    kind(
        "passkey",
        6,
        Metric::FirstDigits,
        "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you about the important information there.\n\n{context}\n\n|{input}\n\n|The pass key is",
    ),
    kind(
        "number_string",
        12,
        Metric::FirstDigits,
        "There is an important info hidden inside a lot of irrelevant text. Find it. I will quiz you about the important information there.\n\n{context}\n\n|{input}\n\n|The sequence of digits is",
    ),
    kind(
        "kv_retrieval",
        50,
        Metric::Word,
        "Extract the value corresponding to the specified key in the JSON object below.\n\n{context}\n\n|{input}|",
    ),
    kind("longbook_sum_eng", 1200, Metric::RougeLsum, "Summarize the book below.\n\n{context}\n\n||Summary:"),
    kind(
        "longbook_choice_eng",
        40,
        Metric::OptionOrText,
        "Read the book and answer the question.\n\n{context}\n\n|Question: {input}\n\n|The letter of the correct answer is",
    ),
    kind(
        "longbook_qa_eng",
        40,
        Metric::QaF1,
        "Read the book and answer the question. Be very concise in your answer.\n\n{context}\n\n|Question: {input}\n|Answer:",
    ),
    kind(
        "longbook_qa_chn",
        40,
        Metric::CharacterF1,
        "阅读以下书籍然后回答问题。\n\n{context}\n\n|问题：{input}\n|答案：",
    ),
    kind(
        "longdialogue_qa_eng",
        40,
        Metric::Name,
        "Below is a dialogue script where one random occurrence of a character name is replaced with \"$$MASK$$\", and you should try to guess who that character is.\n\n{context}\n\n||The name that has been replaced with $$MASK$$ is likely",
    ),
    kind("math_find", 3, Metric::FirstNumber, "{context}\n\n|{input}|"),
    kind(
        "math_calc",
        30_000,
        Metric::NumberPrefix,
        "Let us calculate the intermediate values of an expression.\n\nExpression: 1 + 3 + 4\nValues: [1, 4, 8]\n\nExpression: 8 - 3 + 2 - 4\nValues: [8, 5, 7, 3]\n\nExpression: {context}\n||Values:",
    ),
    kind(
        "code_run",
        5,
        Metric::LastInteger,
        "{context}\n\n|Please compute the exact value of {input}. |The value of {input} is",
    ),
    kind(
        "code_debug",
        5,
        Metric::FaultyFunction,
        "Following is a Python code where exactly one of the functions/methods has a deliberate error that makes it crash.\n\n{context}\n\n|{input}\n\n|The correct option is:",
    ),
];

impl InfiniteBench {
    fn samples(&self, _: Setting<'_>) -> Result<Samples> {
        self.source().samples(&KINDS, sample)
    }
}

fn sample(kind: &Kind, row: &Row) -> Result<Sample> {
    let (context, turn) = if row.has("question") {
        let sample = columns::sample(row, kind.metric.clone())?;
        let Some(mut turn) = sample.turns.into_iter().next() else { return Err(row.bad("asks nothing")) };
        turn.answers = converted(kind, &turn, row)?;
        (sample.context, turn)
    } else {
        own(kind, row)?
    };
    Ok(Sample {
        context,
        turns: vec![turn],
        task: kind.name.into(),
        facets: Facets::new(),
        truncation: Truncation::Middle,
    })
}

fn own(kind: &Kind, row: &Row) -> Result<(String, Turn)> {
    let input = row.optional_text("input")?.unwrap_or_default();
    let text = row.text("context")?;
    let (before, asked, answers) = match kind.name {
        "longbook_choice_eng" => (String::new(), input.to_owned() + &lettered(row, "\n")?, with_letter(row)?),
        "code_debug" => (String::new(), "Options:\n".to_owned() + lettered(row, "\n")?.trim_start(), with_letter(row)?),
        "math_find" => {
            (format!("What is {} in the following list?\n\n", target(row, input)?), input.into(), answers(row)?)
        }
        "code_run" => {
            let call = called(row, input)?;
            let function = call.split('(').next().unwrap_or_default();
            let before = format!("There is a function called {function} in the following Python code.\n\n");
            (before, call.to_owned(), answers(row)?)
        }
        _ => (String::new(), input.to_owned(), answers(row)?),
    };
    let (context, question, answer_prefix) = prompt(kind.prompt, text, &asked);
    let (max_new_tokens, metric) = (kind.max_new_tokens, kind.metric.clone());
    Ok((before + &context, Turn { question, answer_prefix, answers, max_new_tokens, metric }))
}

/// The answers, of which lists of numbers may be nested once.
fn answers(row: &Row) -> Result<Vec<String>> {
    match row.get("answer").and_then(|answer| answer.get(0)) {
        Some(inner @ serde_json::Value::Array(_)) => row.texts_of("answer", inner),
        _ => row.texts("answer"),
    }
}

fn options(row: &Row) -> Result<Vec<String>> {
    let options = row.texts("options")?;
    if options.len() == 4 {
        Ok(options)
    } else {
        Err(row.bad(format!("`options` are {}, four are due", options.len())))
    }
}

fn lettered(row: &Row, before: &str) -> Result<String> {
    Ok(options(row)?.iter().zip('A'..).map(|(option, letter)| format!("{before}{letter}. {option}")).collect())
}

/// The right option and its letter.
fn with_letter(row: &Row) -> Result<Vec<String>> {
    let answer = row.texts("answer")?.swap_remove(0);
    let place = options(row)?.iter().position(|option| *option == answer);
    let letter = place.and_then(|place| "ABCD".get(place..=place));
    let letter = letter.ok_or_else(|| row.bad(format!("`answer` is `{answer}`, which is none of the options")))?;
    Ok(vec![answer, letter.to_owned()])
}

/// What is to be found in a list: `the largest number`.
fn target(row: &Row, input: &str) -> Result<String> {
    static TARGET: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("(The .+) of").ok());
    let found = TARGET.as_ref().and_then(|target| Some(target.captures(input)?[1].to_lowercase()));
    found.ok_or_else(|| row.bad("`input` names no number to find (The ... of)"))
}

/// The function call whose value is asked for.
fn called<'i>(row: &Row, input: &'i str) -> Result<&'i str> {
    static CALL: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"func_[0-9]+\(-?[0-9]+\)").ok());
    let found = CALL.as_ref().and_then(|call| call.find(input)).map(|call| call.as_str());
    found.ok_or_else(|| row.bad("`input` calls no function (func_1(2))"))
}

/// Answers of kvpress's conversion, which keeps an option's letter alone and its text at the question's end.
fn converted(kind: &Kind, turn: &Turn, row: &Row) -> Result<Vec<String>> {
    let [letter] = &turn.answers[..] else { return Ok(turn.answers.clone()) };
    if !matches!(kind.metric, Metric::OptionOrText | Metric::FaultyFunction) {
        return Ok(turn.answers.clone());
    }
    let marked = format!("\n{letter}. ");
    let option = turn.question.rfind(&marked).and_then(|at| turn.question[at + marked.len()..].lines().next());
    let option = option.ok_or_else(|| row.bad(format!("`question` has no option {letter}")))?;
    Ok(vec![option.to_owned(), letter.clone()])
}
