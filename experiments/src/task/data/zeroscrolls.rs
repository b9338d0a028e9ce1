//! ZeroSCROLLS, whose rows say where document, query and answer begin.

use pressroom::Result;
use pressroom::pipeline::Truncation;

use super::row::Row;
use super::source::{Part, published};
use crate::task::{Facets, Metric, Sample, Samples, Setting, Turn};

published! {
    /// ZeroSCROLLS (Shaham et al., 2023, <https://arxiv.org/abs/2305.14196>): ten tasks on long texts.
    ///
    /// Reads its own JSONL (`input`, `output` and indices of characters), unpacked from its archives, of the validation split:
    /// about twenty samples of each task. The answers of the test split are not published. A document that is too long
    /// loses its end. Its ROUGE is the geometric mean of a task's mean scores, here it is that of each answer's.
    "zeroscrolls" ZeroScrolls "tau/zero_scrolls"
}

/// One of the tasks; lengths are kvpress's.
struct Kind(&'static str, usize, Metric);

impl Part for Kind {
    fn name(&self) -> &str {
        self.0
    }

    /// The test split has no answers.
    fn leaves_out(&self, name: &str) -> bool {
        name.starts_with("test")
    }
}

const KINDS: [Kind; 10] = [
    Kind("gov_report", 1024, Metric::RougeMean),
    Kind("summ_screen_fd", 512, Metric::RougeMean),
    Kind("qmsum", 512, Metric::RougeMean),
    Kind("qasper", 128, Metric::QaF1Ascii),
    Kind("narrative_qa", 64, Metric::QaF1Ascii),
    Kind("quality", 10, Metric::Option),
    Kind("musique", 32, Metric::QaF1Ascii),
    Kind("squality", 512, Metric::RougeMean),
    Kind("space_digest", 36, Metric::Percentage),
    Kind("book_sum_sort", 256, Metric::Order),
];

impl ZeroScrolls {
    fn samples(&self, _: Setting<'_>) -> Result<Samples> {
        self.source().samples(&KINDS, sample)
    }
}

fn sample(Kind(name, max_new_tokens, metric): &Kind, row: &Row) -> Result<Sample> {
    let input = row.text("input")?;
    if !row.has("output") {
        return Err(
            row.bad("has no `output`: the answers of the test split are not published, the validation split has some")
        );
    }
    let document = cut(row, input, "document_end_index")?;
    let query = cut(row, input, "query_end_index")?.max(document);
    let turn = Turn {
        question: input[document..query].to_owned(),
        answer_prefix: input[query..].trim().to_owned(),
        answers: row.texts("output")?,
        max_new_tokens: *max_new_tokens,
        metric: metric.clone(),
    };
    Ok(Sample {
        context: input[..document].to_owned(),
        turns: vec![turn],
        task: (*name).to_owned(),
        facets: Facets::new(),
        truncation: Truncation::End,
    })
}

/// The byte at which the character stands that `field` counts.
fn cut(row: &Row, input: &str, field: &str) -> Result<usize> {
    let characters = row.count(field)?.ok_or_else(|| row.bad(format!("missing field `{field}`")))?;
    Ok(input.char_indices().nth(characters).map_or(input.len(), |(byte, _)| byte))
}
