//! RULER in the files that its scripts write, or in kvpress's conversion.

use pressroom::Result;
use pressroom::pipeline::Truncation;

use super::columns;
use super::row::Row;
use super::source::{Part, published};
use crate::task::{Facets, Metric, Sample, Samples, Setting, Turn};

published! {
    /// RULER (Hsieh et al., 2024, <https://arxiv.org/abs/2404.06654>): thirteen synthetic tasks.
    ///
    /// Reads what its scripts write (`input`, `outputs`), or kvpress's conversion, whose files are by length. The texts are
    /// cut for one tokenizer: another model's contexts have another length. Facet: `length`, where a file tells.
    "ruler" Ruler "simonjegou/ruler"
}

/// Files of one task, or of one length with all tasks.
struct Kind {
    name: &'static str,
    max_new_tokens: usize,
    /// What the question begins with, and the answer.
    question: &'static [&'static str],
    answer: &'static str,
}

const MAGIC: &[&str] = &["What is the special magic", "What are all the special magic"];

const fn needle(name: &'static str) -> Kind {
    Kind { name, max_new_tokens: 128, question: MAGIC, answer: "The special magic" }
}

const fn asked(name: &'static str, max_new_tokens: usize, question: &'static [&'static str]) -> Kind {
    Kind { name, max_new_tokens, question, answer: "Answer:" }
}

const DOCUMENTS: &[&str] = &["Answer the question based on the given documents."];

const KINDS: [Kind; 13] = [
    needle("niah_single_1"),
    needle("niah_single_2"),
    needle("niah_single_3"),
    needle("niah_multikey_1"),
    needle("niah_multikey_2"),
    needle("niah_multikey_3"),
    needle("niah_multivalue"),
    needle("niah_multiquery"),
    asked("vt", 30, &["Question: Find all variables that are assigned the value"]),
    asked("cwe", 120, &["Question: What are the 10 most common words in the above list?"]),
    asked("fwe", 50, &["Question: Do not provide any explanation."]),
    asked("qa_1", 32, DOCUMENTS),
    asked("qa_2", 32, DOCUMENTS),
];

impl Part for Kind {
    fn name(&self) -> &str {
        self.name
    }
}

/// A file of kvpress's conversion, which mixes the kinds.
struct Length(String);

impl Part for Length {
    fn name(&self) -> &str {
        &self.0
    }
}

impl Ruler {
    fn samples(&self, _: Setting<'_>) -> Result<Samples> {
        let is_length = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
        let source = self.source();
        let file = std::path::Path::new(&self.path).file_stem().and_then(|stem| stem.to_str());
        match self.subset.as_deref() {
            Some(lengths) if lengths.iter().all(|name| is_length(name)) => {
                let parts: Vec<Length> = lengths.iter().cloned().map(Length).collect();
                source.samples(&parts, converted)
            }
            None if file.is_some_and(is_length) && std::path::Path::new(&self.path).is_file() => {
                source.samples(&[Length(file.unwrap_or_default().to_owned())], converted)
            }
            _ => source.samples(&KINDS, own),
        }
    }
}

fn metric(task: &str) -> Metric {
    if task.starts_with("qa") { Metric::AnyMatch } else { Metric::StringMatch }
}

fn converted(length: &Length, row: &Row) -> Result<Sample> {
    let facets = length.0.parse().map(|length| ("length".to_owned(), length)).into_iter().collect::<Facets>();
    Ok(Sample { facets, ..columns::sample(row, metric(row.text("task")?))? })
}

fn own(kind: &Kind, row: &Row) -> Result<Sample> {
    let input = row.text("input")?;
    let asked = kind.question.iter().filter_map(|question| input.rfind(question)).max();
    let asked = asked.ok_or_else(|| row.bad(format!("asks no question of the kind {}", kind.name)))?;
    let (context, rest) = input.split_at(asked);
    // Newer files keep how the answer begins apart.
    let (question, answer_prefix) = match (row.optional_text("answer_prefix")?, rest.find(kind.answer)) {
        (Some(prefix), _) => (rest, prefix.trim_start()),
        (None, Some(answer)) => rest.split_at(answer),
        (None, None) => (rest, ""),
    };
    let turn = Turn {
        question: question.to_owned(),
        answer_prefix: answer_prefix.to_owned(),
        answers: row.texts("outputs")?,
        max_new_tokens: kind.max_new_tokens,
        metric: metric(kind.name),
    };
    let length = row.count("length")?.map(|length| ("length".to_owned(), length as f64));
    Ok(Sample {
        context: context.to_owned(),
        turns: vec![turn],
        task: kind.name.into(),
        facets: length.into_iter().collect(),
        truncation: Truncation::End,
    })
}
