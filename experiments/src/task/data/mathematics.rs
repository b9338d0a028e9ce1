//! AIME 2025 and MATH-500: short problems with long answers, for presses of the decoding phase.

use pressroom::Result;
use pressroom::pipeline::Truncation;

use super::row::Row;
use super::source::{Part, published};
use crate::task::{Facets, Metric, Sample, Samples, Setting, Turn};

published! {
    /// AIME 2025: 30 problems of a competition, whose answers are whole numbers from 0 to 999.
    ///
    /// Reads `problem` (or `question`) and `answer`. Scored as kvpress does: the content of the last `\boxed{}`.
    "aime25" Aime25 "math-ai/aime25"
}

published! {
    /// MATH-500 (Lightman et al., 2023, <https://arxiv.org/abs/2305.20050>): 500 problems with answers in LaTeX.
    ///
    /// Reads `problem` and `answer`. Answers are compared as mathematics; the strict score is kvpress's, the content of
    /// the last `\boxed{}` letter for letter. Facet: `level`.
    "math500" Math500 "HuggingFaceH4/MATH-500"
}

/// A set of problems, in whatever file.
struct Problems {
    name: &'static str,
    metric: Metric,
}

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
        self.source().samples(&[Problems { name: "aime25", metric: Metric::Boxed }], sample)
    }
}

impl Math500 {
    fn samples(&self, _: Setting<'_>) -> Result<Samples> {
        self.source().samples(&[Problems { name: "math500", metric: Metric::Mathematics }], sample)
    }
}

/// The problem is the context, which decoding goes on compressing.
fn sample(problems: &Problems, row: &Row) -> Result<Sample> {
    let field = ["problem", "question"].into_iter().find(|field| row.has(field)).unwrap_or("problem");
    let turn = Turn {
        question: "\n\nReason step by step, and put the final answer into \\boxed{}.".into(),
        answer_prefix: String::new(),
        answers: row.texts("answer")?,
        max_new_tokens: 32_000,
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
