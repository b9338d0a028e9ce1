//! How predictions are scored: the published metrics, and a strict reading beside each.

mod choice;
mod edit;
mod lists;
mod maths;
mod numbers;
mod rouge;
mod words;

use pressroom::press::{ParamType, ParamValue, Value};
use serde::{Deserialize, Serialize};

/// What decides how right a prediction is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// RULER's for lists: the fraction of the answers that the prediction contains, ignoring case.
    #[default]
    StringMatch,
    /// RULER's for questions: whether the prediction contains one of the answers, ignoring case.
    AnyMatch,
    /// SQuAD's F1 of the words, as LongBench and InfiniteBench use it.
    QaF1,
    /// The same of words spelled in ASCII, as ZeroSCROLLS uses it.
    QaF1Ascii,
    /// F1 of Chinese words (jieba's), as LongBench uses it.
    QaF1Zh,
    /// F1 of Chinese characters, as InfiniteBench and SCBench use it.
    CharacterF1,
    /// ROUGE-L over whole summaries (F) as the Python package `rouge` computes it, which LongBench uses.
    RougeL,
    /// The same of Chinese words.
    RougeLZh,
    /// The same, recall, as LooGLE reports it.
    RougeLRecall,
    /// ROUGE-L over lines as `rouge-score` computes it (`rougeLsum`), which InfiniteBench and SCBench use.
    RougeLsum,
    /// Geometric mean of ROUGE-1, ROUGE-2 and ROUGE-L of `rouge-score`, as ZeroSCROLLS has it of the means of a set.
    RougeMean,
    /// LongBench's for classes: one over the number of classes that the prediction names, if the right one is among them.
    Classification {
        /// All classes.
        classes: Vec<String>,
    },
    /// LongBench's for `Paragraph 7`: the share of the prediction's numbers that are the paragraph's.
    Retrieval,
    /// LongBench's for counts: the share of the prediction's numbers that are the answer.
    Count,
    /// LongBench's for code: similarity of the first line that is neither comment nor fence, as `fuzzywuzzy` rounds it.
    EditSimilarity,
    /// InfiniteBench's for hidden digits: the first run of digits is the answer.
    FirstDigits,
    /// InfiniteBench's for program results: the last word is the answer, a whole number.
    LastInteger,
    /// InfiniteBench's for numbers in lists: the first number equals the answer.
    FirstNumber,
    /// InfiniteBench's for chains of results: the share of the answers that the prediction's numbers begin with.
    NumberPrefix,
    /// InfiniteBench's for keys and values: the answer is one of the words.
    Word,
    /// SCBench's for keys and values: the prediction contains one of the answers as it is written.
    Contains,
    /// InfiniteBench's for names: the prediction contains one of the answers, in capitals.
    Name,
    /// LongBench v2's: the letter after `The correct answer is`.
    Choice,
    /// ZeroSCROLLS' for options: the answer's letter is the first one of A to D that stands alone.
    Option,
    /// InfiniteBench's and SCBench's for options: answers are the text of the right option and its letter.
    OptionOrText,
    /// InfiniteBench's for the faulty function: answers are its name and its letter.
    FaultyFunction,
    /// LooGLE's for clozes: the share of the masks that are filled right; the answer is a JSON object of them.
    Cloze,
    /// ZeroSCROLLS' for percentages: halves with every tenth between prediction and answer.
    Percentage,
    /// ZeroSCROLLS' for orders: the share of the pairs in their right order; nothing for what is no order of the same.
    Order,
    /// kvpress's for AIME: the content of the last `\boxed{}` is the answer, letter for letter.
    Boxed,
    /// The last `\boxed{}` (or what is left of the last line) equals the answer as mathematics.
    Mathematics,
    /// Another metric on the first line only, as LongBench scores examples that a model might go on with.
    FirstLine(Box<Metric>),
    /// Nothing is decoded: the answer is a continuation, and the score its tokens' geometric mean probability.
    Likelihood,
}

impl Metric {
    /// The score of a prediction, between 0 and 1; 0 where there is no answer to be right.
    pub fn score(&self, prediction: &str, answers: &[String]) -> f64 {
        let best = |metric: &dyn Fn(&str, &str) -> f64| {
            answers.iter().map(|answer| metric(prediction, answer)).fold(0.0, f64::max)
        };
        let truth = |right: bool| f64::from(u8::from(right));
        match self {
            Self::StringMatch => words::fraction_found(prediction, answers),
            Self::AnyMatch => truth(answers.iter().any(|answer| words::found(prediction, answer))),
            Self::QaF1 => best(&words::f1),
            Self::QaF1Ascii => best(&words::f1_ascii),
            Self::QaF1Zh => best(&words::f1_zh),
            Self::CharacterF1 => best(&words::f1_characters),
            Self::RougeL => best(&|prediction, answer| rouge::summary(prediction, answer).f),
            Self::RougeLZh => best(&|prediction, answer| rouge::summary_zh(prediction, answer).f),
            Self::RougeLRecall => best(&|prediction, answer| rouge::summary(prediction, answer).recall),
            Self::RougeLsum => best(&rouge::lines),
            Self::RougeMean => rouge::geometric_mean(prediction, answers),
            Self::Classification { classes } => best(&|prediction, answer| choice::class(prediction, answer, classes)),
            Self::Retrieval => best(&numbers::retrieval),
            Self::Count => best(&numbers::count),
            Self::EditSimilarity => best(&edit::first_code_line),
            Self::FirstDigits => best(&|prediction, answer| truth(numbers::first_digits(prediction) == answer)),
            Self::LastInteger => best(&|prediction, answer| truth(numbers::last_integer(prediction, answer))),
            Self::FirstNumber => best(&|prediction, answer| truth(numbers::first_number(prediction, answer))),
            Self::NumberPrefix => numbers::prefix(prediction, answers),
            Self::Word => best(&|prediction, answer| truth(words::is_a_word(prediction, answer))),
            Self::Contains => best(&|prediction, answer| truth(prediction.contains(answer))),
            Self::Name => best(&|prediction, answer| truth(words::in_capitals(prediction, answer))),
            Self::Choice => best(&|prediction, answer| truth(choice::stated(prediction).as_deref() == Some(answer))),
            Self::Option => best(&|prediction, answer| truth(choice::same_letter(prediction, answer))),
            Self::OptionOrText => truth(choice::option_or_text(prediction, answers)),
            Self::FaultyFunction => truth(choice::faulty_function(prediction, answers)),
            Self::Cloze => best(&lists::cloze),
            Self::Percentage => best(&lists::percentage),
            Self::Order => best(&lists::order),
            Self::Boxed => best(&|prediction, answer| truth(maths::boxed(prediction) == Some(answer))),
            Self::Mathematics => best(&|prediction, answer| truth(maths::right(prediction, answer))),
            Self::FirstLine(metric) => metric.score(words::first_line(prediction), answers),
            // The pipeline measures it; a text has none.
            Self::Likelihood => 0.0,
        }
    }

    /// The same question with no credit for rambling: of what contains an answer, only whole words of the first line
    /// count; of what should be one answer, the first line has to be it and nothing else (case, punctuation and articles
    /// aside). Summaries and similarities, which punish length themselves, are scored as they are.
    pub fn strict(&self, prediction: &str, answers: &[String]) -> f64 {
        let line = words::first_line(prediction.trim());
        let truth = |right: bool| f64::from(u8::from(right));
        let nothing_else = || truth(answers.iter().any(|answer| words::same(line, answer)));
        match self {
            Self::StringMatch => words::fraction_of_whole_words(line, answers),
            Self::AnyMatch | Self::Name | Self::Contains | Self::Word => {
                truth(answers.iter().any(|answer| words::whole_words(line, answer)))
            }
            Self::QaF1
            | Self::QaF1Ascii
            | Self::QaF1Zh
            | Self::CharacterF1
            | Self::Classification { .. }
            | Self::Retrieval
            | Self::Count
            | Self::EditSimilarity
            | Self::FirstDigits
            | Self::LastInteger
            | Self::FirstNumber
            | Self::Option
            | Self::OptionOrText
            | Self::FaultyFunction => nothing_else(),
            Self::Choice => truth(answers.iter().any(|answer| choice::only(line, answer))),
            Self::Boxed | Self::Mathematics => Self::Boxed.score(prediction, answers),
            Self::FirstLine(metric) => metric.strict(prediction, answers),
            Self::RougeL
            | Self::RougeLZh
            | Self::RougeLRecall
            | Self::RougeLsum
            | Self::RougeMean
            | Self::NumberPrefix
            | Self::Cloze
            | Self::Percentage
            | Self::Order
            | Self::Likelihood => self.score(prediction, answers),
        }
    }
}

/// Metrics that can be named in TOML: all that need nothing besides the answers.
impl ParamValue for Metric {
    const TYPE: ParamType = ParamType::Text;
    const CHOICES: &'static [&'static str] = &[
        "string_match",
        "any_match",
        "qa_f1",
        "qa_f1_ascii",
        "qa_f1_zh",
        "character_f1",
        "rouge_l",
        "rouge_l_zh",
        "rouge_l_recall",
        "rouge_lsum",
        "rouge_mean",
        "retrieval",
        "count",
        "edit_similarity",
        "first_digits",
        "last_integer",
        "first_number",
        "number_prefix",
        "word",
        "contains",
        "name",
        "choice",
        "option",
        "cloze",
        "percentage",
        "order",
        "boxed",
        "mathematics",
        "likelihood",
    ];

    fn to_value(&self) -> Option<Value> {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => Some(Value::Text(name)),
            _ => None,
        }
    }

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Text(name) => serde_json::from_value(name.into()).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
