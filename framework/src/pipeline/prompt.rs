//! The split of a prompt into the context that is compressed and the questions that follow it.

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::error::{Error, Result};
use crate::model::{ChatTemplate, Message, TextTokenizer};

/// Whether a press sees the question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Regime {
    /// The question is asked after compression; the press has not seen it.
    #[default]
    Hidden,
    /// The question is part of the compressed text.
    Visible,
}

impl std::fmt::Display for Regime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hidden => "hidden",
            Self::Visible => "visible",
        })
    }
}

/// What is asked, and how the answer begins.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Question {
    /// The question's text.
    pub text: String,
    /// Text that the answer starts with, given to the model and not generated.
    pub answer_prefix: String,
}

/// Which part of a context that is too long is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truncation {
    /// Its end.
    #[default]
    End,
    /// Its middle: context and question together keep the first and the last half of what fits, as LongBench has it.
    Middle,
}

/// How text becomes tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct PromptOptions {
    /// Whether questions belong to the compressed text.
    pub regime: Regime,
    /// Use the text as it is, without the chat template.
    pub raw: bool,
    /// Longest context that is wanted, tokens; longer ones are truncated.
    pub max_context_length: Option<usize>,
    /// Positions that context and question share: the model's without the answer's. A longer context is truncated.
    pub room: usize,
    /// What a context that is too long loses.
    pub truncation: Truncation,
}

impl PromptOptions {
    /// Tokens of context that fit beside the longest of `questions`, at least one.
    fn longest_context(&self, questions: &[Vec<i64>]) -> Result<usize> {
        let room = self.room.saturating_sub(questions.iter().map(Vec::len).max().unwrap_or(0));
        match self.max_context_length.map_or(room, |wanted| wanted.min(room)) {
            0 => Err(Error::input(
                "no token is left for the context: allow a longer one, or ask for shorter answers to shorter questions",
            )),
            longest => Ok(longest),
        }
    }
}

/// A context and its questions as token ids.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// What is compressed.
    pub context: Vec<i64>,
    /// What is appended for each question; never empty.
    pub questions: Vec<Vec<i64>>,
    /// Tokens at the context's start that belong to the template.
    pub prefix_tokens: usize,
    /// Tokens of a visible question at the context's end; 0 where the question is hidden.
    pub question_tokens: usize,
    /// What the template puts after the user's text, up to where the answer begins.
    pub suffix: Vec<i64>,
    /// Tokens that truncation cut from the context.
    pub truncated: usize,
    /// The rendered text, context first, a placeholder where the questions go.
    pub rendered: String,
}

impl Prompt {
    /// Renders and tokenizes. The template is rendered once around the context; the questions follow, each with the
    /// template's suffix and its answer prefix.
    ///
    /// With [`Regime::Visible`] there is one prompt per question: pass a single one.
    ///
    /// # Errors
    /// The context is empty, or the question leaves no room for it; a model without a template is used without `raw`;
    /// several questions are visible.
    pub fn build(
        context: &str,
        questions: &[Question],
        template: Option<&ChatTemplate>,
        tokenizer: &TextTokenizer,
        options: PromptOptions,
    ) -> Result<Self> {
        if context.trim().is_empty() {
            return Err(Error::input("the context is empty: there is nothing to compress"));
        }
        if questions.is_empty() {
            return Err(Error::input("there is no question to answer"));
        }
        let visible = match (options.regime, questions) {
            (Regime::Hidden, _) => "",
            (Regime::Visible, [question]) => question.text.as_str(),
            (Regime::Visible, _) => return Err(Error::input("several questions cannot share one visible prompt")),
        };
        let (before, suffix) = split(&format!("{context}{visible}"), template, options.raw)?;
        let asked = |question: &Question| {
            let text = if options.regime == Regime::Hidden { question.text.as_str() } else { "" };
            let ids = tokenizer.encode(&format!("{text}{suffix}{}", question.answer_prefix))?;
            if ids.is_empty() { Err(Error::input("a question came out empty")) } else { Ok(ids) }
        };
        let questions = questions.iter().map(asked).collect::<Result<Vec<_>>>()?;
        let longest = options.longest_context(&questions)?;
        let mut ids = tokenizer.encode(&before)?;
        let prefix = before.strip_suffix(&format!("{context}{visible}")).unwrap_or_default();
        let prefix_tokens = tokenizer.encode(prefix)?.len();
        let question_tokens = match options.regime {
            Regime::Hidden => 0,
            Regime::Visible => {
                let without = tokenizer.encode(before.strip_suffix(visible).unwrap_or(&before))?;
                ids.len() - ids.iter().zip(&without).take_while(|(id, same)| id == same).count()
            }
        };
        let truncated = ids.len().saturating_sub(longest);
        if truncated > 0 {
            if options.regime == Regime::Visible && options.truncation == Truncation::End {
                return Err(Error::input(format!(
                    "the context has {} tokens, {longest} are allowed, and cutting its end would cut the visible \
                     question; shorten the context or ask with the question hidden",
                    ids.len()
                )));
            }
            warn!("the context was cut from {} to {longest} tokens", ids.len());
            let start = match options.truncation {
                Truncation::End => longest,
                Truncation::Middle => {
                    let question = questions.iter().map(Vec::len).max().unwrap_or(0);
                    ((longest + question) / 2).min(longest)
                }
            };
            ids.drain(start..start + truncated);
        }
        Ok(Self {
            context: ids,
            questions,
            prefix_tokens,
            question_tokens,
            suffix: tokenizer.encode(&suffix)?,
            truncated,
            rendered: format!("{before}[question]{suffix}"),
        })
    }
}

/// Renders the template around `content` and splits it where a question would be appended.
fn split(content: &str, template: Option<&ChatTemplate>, raw: bool) -> Result<(String, String)> {
    if raw {
        return Ok((content.to_owned(), "\n".to_owned()));
    }
    let template = template.ok_or_else(|| {
        Error::input(
            "the model has no chat template; ask for the text to be used as it is (raw), or add chat_template.jinja",
        )
    })?;
    // A run of '#' longer than any in the content marks the place, and survives templates that trim. The private-use
    // character before it keeps a '#' at the content's end on the content's side.
    let marker = format!("\u{E000}{}", "#".repeat(content.len() + 10));
    let rendered = template.render(&[Message::user(format!("{content}{marker}"))], true)?;
    match rendered.split_once(&marker) {
        Some((before, after)) => Ok((before.to_owned(), after.to_owned())),
        None => Err(Error::input(
            "the chat template does not show the user's message as it is, so no question can follow it",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One token a letter.
    fn letters() -> TextTokenizer {
        let folder = tempfile::tempdir().unwrap();
        let vocab: serde_json::Map<_, _> =
            ('a'..='z').chain(['\n']).enumerate().map(|(id, letter)| (letter.to_string(), id.into())).collect();
        let json = serde_json::json!({"version": "1.0", "model": {"type": "BPE", "vocab": vocab, "merges": []}});
        std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
        TextTokenizer::read(folder.path()).unwrap()
    }

    #[test]
    fn context_question_and_answer_fit_the_model_together() {
        let question = |text: &str| Question { text: text.into(), answer_prefix: "xy".into() };
        let options = PromptOptions {
            regime: Regime::Hidden,
            raw: true,
            max_context_length: None,
            room: 20,
            truncation: Truncation::End,
        };
        let build = |context: &str, questions: &[Question], options| {
            Prompt::build(context, questions, None, &letters(), options)
        };
        // The longest question takes 4 letters, a line feed and the answer's beginning.
        let both = [question("abcd"), question("a")];
        for (length, kept) in [(12, 12), (13, 13), (14, 13), (40, 13)] {
            let prompt = build(&"c".repeat(length), &both, options).unwrap();
            assert_eq!((prompt.context.len(), prompt.truncated), (kept, length - kept));
            assert_eq!(prompt.questions.iter().map(Vec::len).collect::<Vec<_>>(), [7, 4]);
        }
        let wanted = |most| PromptOptions { max_context_length: Some(most), ..options };
        assert_eq!(build(&"c".repeat(40), &both, wanted(5)).unwrap().context.len(), 5);
        assert_eq!(build(&"c".repeat(40), &both, wanted(500)).unwrap().context.len(), 13);
        // The visible question is in the context; what follows it are 3 letters.
        let visible = PromptOptions { regime: Regime::Visible, ..options };
        assert_eq!(build(&"c".repeat(13), &both[..1], visible).unwrap().context.len(), 17);
        let error = build(&"c".repeat(14), &both[..1], visible).unwrap_err().to_string();
        assert!(error.contains("has 18 tokens, 17 are allowed"), "{error}");
        let middle = PromptOptions { truncation: Truncation::Middle, ..options };
        let prompt = build(&format!("ab{}yz", "c".repeat(40)), &both, middle).unwrap();
        // 13 and the longest question are 20; the first half of them is context.
        let all: Vec<i64> = letters().encode("abccccccccccyz").unwrap();
        assert_eq!(prompt.context, [&all[..10], &all[11..]].concat());
        let visible = PromptOptions { truncation: Truncation::Middle, ..visible };
        let prompt = build(&"c".repeat(30), &both[..1], visible).unwrap();
        assert_eq!(prompt.context.len(), 17);
        assert_eq!(prompt.context[13..], letters().encode("abcd").unwrap()[..]);
        for refused in [wanted(0), PromptOptions { room: 7, ..options }] {
            let error = build("cc", &both, refused).unwrap_err().to_string();
            assert!(error.contains("no token is left for the context"), "{error}");
        }
    }

    #[test]
    fn the_template_is_split_right_after_the_content() {
        let source = "<user>{{ messages[0]['content'] | trim }}</user><assistant>";
        let template = ChatTemplate::new(source.into(), serde_json::Map::new()).unwrap();
        for content in ["plain", "a heading #", "########", "\u{E000}#", "ends with space  "] {
            let (before, suffix) = split(content, Some(&template), false).unwrap();
            assert_eq!(before, format!("<user>{content}"));
            assert_eq!(suffix, "</user><assistant>");
        }
        assert_eq!(split("raw text", None, true).unwrap(), ("raw text".into(), "\n".into()));
        assert!(split("text", None, false).unwrap_err().to_string().contains("no chat template"));
    }
}
