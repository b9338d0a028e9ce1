//! Metrics that compare words.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::LazyLock;

use jieba_rs::Jieba;

static CHINESE: LazyLock<Jieba> = LazyLock::new(Jieba::new);

/// What LongBench removes from Chinese besides the punctuation of ASCII.
const CHINESE_PUNCTUATION: &str = "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏.";

/// Whether `prediction` contains `answer`, ignoring case.
pub(super) fn found(prediction: &str, answer: &str) -> bool {
    prediction.to_lowercase().contains(&answer.to_lowercase())
}

/// The fraction of the answers that `prediction` contains.
pub(super) fn fraction_found(prediction: &str, answers: &[String]) -> f64 {
    fraction(answers, |answer| found(prediction, answer))
}

/// The fraction of the answers that `line` contains as whole words.
pub(super) fn fraction_of_whole_words(line: &str, answers: &[String]) -> f64 {
    fraction(answers, |answer| whole_words(line, answer))
}

fn fraction(answers: &[String], right: impl Fn(&str) -> bool) -> f64 {
    answers.iter().filter(|answer| right(answer)).count() as f64 / answers.len().max(1) as f64
}

/// Whether `answer` stands in `line` with no letter or digit right before or after it, ignoring case.
pub(super) fn whole_words(line: &str, answer: &str) -> bool {
    let (line, answer) = (line.to_lowercase(), answer.trim().to_lowercase());
    !answer.is_empty()
        && line.match_indices(&answer).any(|(start, found)| {
            let before = line[..start].chars().next_back();
            let after = line[start + found.len()..].chars().next();
            !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
        })
}

/// Whether both are the same words, as SQuAD compares them.
pub(super) fn same(prediction: &str, answer: &str) -> bool {
    normalised(prediction) == normalised(answer) && !normalised(answer).is_empty()
}

/// The text up to the first line feed that something precedes.
pub(super) fn first_line(prediction: &str) -> &str {
    prediction.trim_start_matches('\n').split('\n').next().unwrap_or_default()
}

/// F1 of the words of both, as SQuAD computes it.
pub(super) fn f1(prediction: &str, answer: &str) -> f64 {
    overlap(&normalised(prediction), &normalised(answer))
}

/// [`f1`] of words spelled in ASCII, once case, punctuation and articles are gone: dashes and quotes come back.
pub(super) fn f1_ascii(prediction: &str, answer: &str) -> f64 {
    let words = |text: &str| -> Vec<String> {
        let ascii = deunicode::deunicode(&normalised(text).join(" "));
        ascii.split_whitespace().map(str::to_owned).collect()
    };
    overlap(&words(prediction), &words(answer))
}

/// F1 of the words that jieba finds in both.
pub(super) fn f1_zh(prediction: &str, answer: &str) -> f64 {
    let words = |text: &str| -> Vec<String> {
        let words = chinese(text).into_iter().map(|word| bare_chinese(&word));
        words.filter(|word| !word.is_empty()).collect()
    };
    overlap(&words(prediction), &words(answer))
}

/// F1 of the characters of both.
pub(super) fn f1_characters(prediction: &str, answer: &str) -> f64 {
    let characters = |text: &str| bare_chinese(text).chars().collect::<Vec<_>>();
    overlap(&characters(prediction), &characters(answer))
}

/// The words of a Chinese text.
pub(super) fn chinese(text: &str) -> Vec<String> {
    CHINESE.cut(text, true).into_iter().map(|token| token.word.to_owned()).collect()
}

/// Whether `answer` is a word of `prediction`, as InfiniteBench cuts it.
pub(super) fn is_a_word(prediction: &str, answer: &str) -> bool {
    spaced(prediction, "\n:\"'.,?!{}").split_whitespace().any(|word| word == answer)
}

/// Whether `prediction` contains `answer`, both in capitals.
pub(super) fn in_capitals(prediction: &str, answer: &str) -> bool {
    prediction.to_uppercase().contains(&answer.to_uppercase())
}

/// `text` with a space in the place of each of `characters`.
pub(super) fn spaced(text: &str, characters: &str) -> String {
    text.chars().map(|letter| if characters.contains(letter) { ' ' } else { letter }).collect()
}

/// Words without case, punctuation and articles.
fn normalised(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let bare: String = lower.chars().filter(|letter| !letter.is_ascii_punctuation()).collect();
    let words = bare.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the"));
    words.map(str::to_owned).collect()
}

fn bare_chinese(text: &str) -> String {
    let lower = text.to_lowercase();
    let left_out = |letter: &char| {
        letter.is_ascii_punctuation() || letter.is_whitespace() || CHINESE_PUNCTUATION.contains(*letter)
    };
    lower.chars().filter(|letter| !left_out(letter)).collect()
}

/// F1 of two bags.
fn overlap<T: Eq + Hash>(prediction: &[T], answer: &[T]) -> f64 {
    let mut left: HashMap<&T, usize> = HashMap::new();
    for word in answer {
        *left.entry(word).or_default() += 1;
    }
    let mut same = 0;
    for word in prediction {
        if let Some(count) = left.get_mut(word).filter(|count| **count > 0) {
            *count -= 1;
            same += 1;
        }
    }
    if same == 0 {
        return 0.0;
    }
    let (precision, recall) = (f64::from(same) / prediction.len() as f64, f64::from(same) / answer.len() as f64);
    2.0 * precision * recall / (precision + recall)
}
