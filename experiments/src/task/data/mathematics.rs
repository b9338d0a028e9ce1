//! AIME 2025 and MATH-500: short problems with long answers, for presses of the decoding phase.

use pressroom::Result;
use pressroom::pipeline::Truncation;

use super::row::Row;
use super::source::{Part, published};
use crate::task::{Facets, Metric, Sample, Samples, Setting, Turn};

published! {
    /// AIME 2025: 30 problems of a competition, whose answers are whole numbers from 0 to 999.
    ///
    /// Reads `problem` (or `question`) and `answer`, and asks for the answer in a box. kvpress's conversion, whose contexts
    /// are blank, asks for none. Scored as kvpress does: the content of the last `\boxed{}`.
    "aime25" Aime25 "math-ai/aime25"
}

published! {
    /// MATH-500 (Lightman et al., 2023, <https://arxiv.org/abs/2305.20050>): 500 problems with answers in LaTeX.
    ///
    /// Reads `problem` and `answer`, or kvpress's conversion, as `aime25` does. Answers are compared as mathematics; the
    /// strict score compares the content of the last `\boxed{}` letter for letter (kvpress that of the first, up to its
    /// first `}`). Facet: `level`.
    "math500" Math500 "HuggingFaceH4/MATH-500"
}

/// A set of problems, in whatever file.
struct Problems {
    name: &'static str,
    metric: Metric,
    /// kvpress's.
    max_new_tokens: usize,
}

const AIME: Problems = Problems { name: "aime25", metric: Metric::Boxed, max_new_tokens: 32_000 };
const MATH: Problems = Problems { name: "math500", metric: Metric::Mathematics, max_new_tokens: 4_096 };

impl Part for Problems {
    fn name(&self) -> &str {
        self.name
    }

    fn is_called(&self, _: &str) -> bool {
        true
    }
}

impl Aime25 {
    fn samples(&self, _: Setting<'_>) -> Result<Samples> {
        self.source().samples(&[AIME], sample)
    }
}

impl Math500 {
    fn samples(&self, _: Setting<'_>) -> Result<Samples> {
        self.source().samples(&[MATH], sample)
    }
}

/// The problem is the context, which decoding goes on compressing.
fn sample(problems: &Problems, row: &Row) -> Result<Sample> {
    let field = if row.has("question") { "question" } else { "problem" };
    let asked =
        if row.has("context") { "" } else { "\n\nReason step by step, and put the final answer into \\boxed{}." };
    let turn = Turn {
        question: asked.into(),
        answer_prefix: String::new(),
        answers: row.texts("answer")?,
        max_new_tokens: row.count("max_new_tokens")?.unwrap_or(problems.max_new_tokens),
        metric: problems.metric.clone(),
    };
    let level = row.count("level")?.map(|level| ("level".to_owned(), level as f64));
    Ok(Sample {
        context: row.text(field)?.to_owned(),
        turns: vec![turn],
        task: problems.name.into(),
        facets: level.into_iter().collect::<Facets>(),
        truncation: Truncation::End,
    })
}
