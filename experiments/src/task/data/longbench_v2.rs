//! LongBench v2: questions with four options about long texts.

use pressroom::Result;
use pressroom::pipeline::Truncation;

use super::columns;
use super::row::Row;
use super::source::{Part, prompt, published};
use crate::task::{Facets, Metric, Sample, Samples, Setting, Turn};

published! {
    /// LongBench v2 (Bai et al., 2024, <https://arxiv.org/abs/2412.15204>): 503 questions with four options, without
    /// chain of thought.
    ///
    /// Reads its own JSON (`question`, `choice_A` to `choice_D`, `answer`, `context`) or kvpress's conversion. A context
    /// that is too long loses its middle. Facets: `hard` (0 or 1) and `length` (0 short, 1 medium, 2 long).
    "longbench_v2" LongBenchV2 "THUDM/LongBench-v2"
}

/// The only subset, in whatever file.
struct All;

impl Part for All {
    fn name(&self) -> &str {
        "longbench_v2"
    }

    fn is_called(&self, _: &str) -> bool {
        true
    }
}

const PROMPT: &str = "Please read the following text and answer the question below.\n\n<text>\n{context}\n</text>\n\n|What is the correct answer to this question: {input}\n\nFormat your response as follows: \"The correct answer is (insert answer here)\".|";

impl LongBenchV2 {
    fn samples(&self, _: Setting<'_>) -> Result<Samples> {
        self.source().samples(&[All], sample)
    }
}

fn sample(all: &All, row: &Row) -> Result<Sample> {
    let level = |field, names: &[&str]| {
        let place = row.optional_text(field)?.and_then(|value| names.iter().position(|name| *name == value));
        Ok::<_, pressroom::Error>(place.map(|place| place as f64))
    };
    let hard = level("difficulty", &["easy", "hard"])?.map(|hard| ("hard".to_owned(), hard));
    let length = level("length", &["short", "medium", "long"])?.map(|length| ("length".to_owned(), length));
    let facets: Facets = hard.into_iter().chain(length).collect();
    if !row.has("choice_A") || row.has("answer_prefix") {
        let sample = columns::sample(row, Metric::Choice)?;
        return Ok(Sample { task: all.name().into(), facets, truncation: Truncation::Middle, ..sample });
    }
    let mut input = format!("{}\nChoices:", row.text("question")?.trim());
    for letter in ["A", "B", "C", "D"] {
        input += &format!("\n({letter}) {}", row.text(&format!("choice_{letter}"))?.trim());
    }
    let (context, question, answer_prefix) = prompt(PROMPT, row.text("context")?.trim(), &input);
    let answers = row.texts("answer")?;
    let turn = Turn { question, answer_prefix, answers, max_new_tokens: 128, metric: Metric::Choice };
    Ok(Sample { context, turns: vec![turn], task: all.name().into(), facets, truncation: Truncation::Middle })
}
