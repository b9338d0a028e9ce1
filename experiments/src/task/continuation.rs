//! How likely the model finds the text that follows a compressed one: a measure with more signal than right or wrong.

use std::path::Path;

use pressroom::pipeline::Truncation;
use pressroom::press::Range;
use pressroom::{Error, Result};

use super::haystack::{Hay, texts};
use super::prose::Dice;
use super::{Facets, Metric, Sample, Samples, Setting, Turn, task};

task! {
    /// Perplexity of a text after its compressed beginning, and the divergence from the uncompressed model's predictions.
    ///
    /// Nothing is decoded. A context is compressed, the text that follows it is fed token by token, and every token's
    /// probability is compared with what the uncompressed context gives. The score is the geometric mean probability of
    /// a token (one over the perplexity); the measures are `nll`, `kl` (nats per token) and `agreement`. Facet: `length`.
    "continuation" Continuation {
        /// A text file, or a folder of them; absent, prose is generated.
        text: Option<String> = None, Range::ANY;
        /// Lengths of the contexts, tokens of the model's tokenizer.
        context_tokens: Vec<usize> = vec![2048], Range::closed(16.0, 1e8);
        /// Length of what follows, tokens; the first one is given.
        continuation_tokens: usize = 256, Range::closed(2.0, 1e6);
        /// Samples of each length, from places spread evenly over the text.
        samples: usize = 8, Range::closed(1.0, 1e8);
    }
}

impl Continuation {
    fn samples(&self, setting: Setting<'_>) -> Result<Samples> {
        let text = self.text.as_ref().map(|place| Ok::<_, Error>((place, texts(Path::new(place))?))).transpose()?;
        let mut samples = Samples::new();
        for &tokens in &self.context_tokens {
            let whole = tokens + self.continuation_tokens;
            match &text {
                None => {
                    for _ in 0..self.samples {
                        let mut dice = Dice::of_sample(setting.seed, samples.len());
                        // Its last sentence ends before the length; one more is enough.
                        let prose = Hay::Prose.stack("", &[], whole + 64, setting.tokenizer, &mut dice)?;
                        let spans = setting.tokenizer.spans(&prose)?;
                        samples.push(Ok(self.sample(&prose, &spans, 0, tokens)?));
                    }
                }
                Some((place, text)) => {
                    let spans = setting.tokenizer.spans(text)?;
                    let spare = spans.len().checked_sub(whole).ok_or_else(|| {
                        Error::file(place, format!("has {} tokens, {whole} are due: shorten both lengths", spans.len()))
                    })?;
                    for at in 0..self.samples {
                        let start = spare * at / self.samples.saturating_sub(1).max(1);
                        samples.push(Ok(self.sample(text, &spans, start, tokens)?));
                    }
                }
            }
        }
        Ok(samples)
    }

    /// The sample whose context begins at a token, or at the next one that begins a character.
    fn sample(&self, text: &str, spans: &[std::ops::Range<usize>], start: usize, tokens: usize) -> Result<Sample> {
        let byte = |token: usize| {
            let place = spans.get(token).map_or(text.len(), |span| span.start);
            (place..=text.len()).find(|place| text.is_char_boundary(*place)).unwrap_or(text.len())
        };
        let (from, cut, end) = (byte(start), byte(start + tokens), byte(start + tokens + self.continuation_tokens));
        let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default().to_owned();
        let turn = Turn {
            question: String::new(),
            answer_prefix: String::new(),
            answers: vec![part(cut..end)],
            max_new_tokens: self.continuation_tokens,
            metric: Metric::Likelihood,
        };
        if turn.answers[0].is_empty() {
            return Err(Error::input(format!("nothing follows the first {tokens} tokens of the text")));
        }
        Ok(Sample {
            context: part(from..cut),
            turns: vec![turn],
            task: "continuation".into(),
            facets: Facets::from([("length".into(), tokens as f64)]),
            truncation: Truncation::End,
        })
    }
}
