//! LooGLE: several questions about each of its long documents.

use pressroom::Result;
use pressroom::pipeline::Truncation;
use serde_json::{Map, Value};

use super::columns;
use super::row::Row;
use super::source::{Kind, prompt, published};
use crate::task::{Facets, Metric, Sample, Samples, Setting, Turn};

published! {
    /// LooGLE (Li et al., 2023, <https://arxiv.org/abs/2311.04939>): questions, clozes and summaries of long documents.
    ///
    /// Reads its own files, with all questions about a document (`input`, `qa_pairs`, `output`) or one (`context`,
    /// `question`, `answer`), or kvpress's conversion. A context that is too long loses its middle. Its reports give
    /// ROUGE-L's recall (the score here), BLEU, METEOR and BERTScore; of clozes, the share of right masks.
    "loogle" Loogle "bigainlco/LooGLE"
}

const QUESTION: &str =
    "Please answer the question based on the long texts below. \n{context}|\nQuestion: {input}\n|Answer: ";

const KINDS: [Kind; 4] = [
    kind("shortdep_qa", 300, Metric::RougeLRecall, QUESTION),
    kind("longdep_qa", 500, Metric::RougeLRecall, QUESTION),
    kind(
        "shortdep_cloze",
        50,
        Metric::Cloze,
        "Please fill in the clozes based on the given long texts below. Each of the placeholder '<mask-n>' in the question could be an entity of Person, Location or Organiocation. The same masks represent the same entity. Output a json format answer, for example: {'<mask-0>': 'Bob', '<mask-1>': 'Gorrosion Magazine','<mask-2>': 'Bethel Horizon'}\n{context}|\n Question: {input} What are the masked entities? \n|Answer:",
    ),
    kind(
        "longdep_summarization",
        500,
        Metric::RougeLRecall,
        "Please generate a summary of the below paper. \n{context}|{input}\n| Summarization: ",
    ),
];

const fn kind(name: &'static str, max_new_tokens: usize, metric: Metric, prompt: &'static str) -> Kind {
    Kind { name, prompt, max_new_tokens, metric, held_by }
}

fn held_by(name: &str) -> &str {
    if name == "summarization" { "longdep_summarization" } else { name }
}

impl Loogle {
    fn samples(&self, _: Setting<'_>) -> Result<Samples> {
        self.source().samples(&KINDS, sample)
    }
}

fn sample(kind: &Kind, row: &Row) -> Result<Sample> {
    let task = kind.name.to_owned();
    if row.has("answer_prefix") {
        let sample = columns::sample(row, kind.metric.clone())?;
        return Ok(Sample { task, truncation: Truncation::Middle, ..sample });
    }
    let text = row.text(if row.has("context") { "context" } else { "input" })?;
    let turn = |question: &str, answers| {
        let (_, question, answer_prefix) = prompt(kind.prompt, "", question);
        Turn { question, answer_prefix, answers, max_new_tokens: kind.max_new_tokens, metric: kind.metric.clone() }
    };
    let turns = match row.get("qa_pairs") {
        None if row.has("output") => vec![turn("", row.texts("output")?)],
        Some(Value::String(none)) if none == "none" => vec![turn("", row.texts("output")?)],
        None => vec![turn(row.optional_text("question")?.unwrap_or_default(), answers(kind, row, "answer")?)],
        Some(_) => {
            let pairs = pairs(row)?.objects("qa_pairs")?;
            let asked = pairs.iter().map(|pair| Ok(turn(pair.text("Q")?, answers(kind, pair, "A")?)));
            asked.collect::<Result<_>>()?
        }
    };
    let (context, _, _) = prompt(kind.prompt, text, "");
    Ok(Sample { context, turns, task, facets: Facets::new(), truncation: Truncation::Middle })
}

/// The row with its questions as a list: files hold them as one, or as text that is Python's for one.
fn pairs(row: &Row) -> Result<Row> {
    let Some(text) = row.optional_text("qa_pairs").ok().flatten() else { return Ok(row.clone()) };
    let parsed = serde_json::from_str(text).ok().or_else(|| crate::python::parse(text));
    let parsed: Value = parsed.ok_or_else(|| row.bad("`qa_pairs` is text that is no list of questions"))?;
    Ok(row.clone().with("qa_pairs", parsed))
}

/// The answers; those of a cloze are one object from masks to values.
fn answers(kind: &Kind, row: &Row, field: &str) -> Result<Vec<String>> {
    match (row.get(field), &kind.metric) {
        (Some(Value::Object(masks)), Metric::Cloze) => Ok(vec![Value::Object(masks.clone()).to_string()]),
        (Some(Value::Array(_)), Metric::Cloze) => {
            let values = row.texts(field)?;
            let named = values.into_iter().enumerate().map(|(at, value)| (format!("<mask-{at}>"), value.into()));
            Ok(vec![Value::Object(named.collect::<Map<_, _>>()).to_string()])
        }
        _ => row.texts(field),
    }
}
