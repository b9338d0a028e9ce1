//! Head scores for `headkv`: what each head fetches while the model answers needle questions.

use std::path::Path;

use pressroom::press::{ModelFacts, Needs, Span};
use pressroom::random::derive_seed;
use pressroom::view::LayerView;
use pressroom::{Error, Result};
use serde_json::json;
use tch::Kind;

use super::{Calibration, Text, look_at, nothing_learned, write_json};

/// What a needle says before its number, and how the answer to its question begins.
const FACT: &str = " The number in the sealed envelope is";
const QUESTION: &str = "\n\nWhat is the number in the sealed envelope?";

/// Measures the retrieval of every query head, text by text.
///
/// A fact with a random number is put into the text, at another depth each time, and asked for; the right answer is
/// given to the model token by token. A head scores by the attention that it pays, where a token of the number is due,
/// to the number in the fact: the mean over those tokens, between 0 and 1. The file has the form in which the heads'
/// scores are published (Wu et al., "Retrieval Head Mechanistically Explains Long-Context Factuality", 2024,
/// <https://arxiv.org/abs/2404.15574>), a score a text. The paper of `headkv` counts reasoning questions as well.
pub struct HeadKvCalibration {
    heads: i64,
    texts: u64,
    /// Scores of each text, `[layers][heads][texts]`.
    scores: Vec<Vec<Vec<f64>>>,
}

/// A text with a needle, its question, and its answer but for the last token.
struct Asked {
    tokens: Vec<i64>,
    /// Where the number starts in the fact, and its length.
    number: (i64, i64),
}

impl HeadKvCalibration {
    /// Nothing learned yet.
    pub fn new(model: &ModelFacts) -> Self {
        let geometry = model.geometry;
        let scores = vec![vec![Vec::new(); geometry.heads as usize]; geometry.layers];
        Self { heads: geometry.heads, texts: 0, scores }
    }

    /// Scores of each text, `[layers][heads][texts]`.
    pub fn scores(&self) -> &[Vec<Vec<f64>>] {
        &self.scores
    }

    fn ask(&self, text: Text<'_>) -> Result<Asked> {
        let lot = derive_seed(0, self.texts);
        let number = (text.encode)(&format!(" {}", 10_000 + lot % 90_000))?;
        let fact = (text.encode)(FACT)?;
        // Multiples of the golden ratio fall evenly into the unit interval, however many there are.
        let depth = (self.texts as f64 * 0.618_033_988_75).fract();
        let (before, after) = text.tokens.split_at((depth * text.tokens.len() as f64) as usize);
        let mut tokens = [text.prefix, before, &fact].concat();
        let start = tokens.len() as i64;
        tokens.extend([&number, &(text.encode)(".")?, after].concat());
        tokens.extend(
            [&(text.encode)(QUESTION)?, text.suffix, &fact, &number[..number.len().saturating_sub(1)]].concat(),
        );
        Ok(Asked { tokens, number: (start, number.len() as i64) })
    }

    /// Mean attention of each head from where a token of the number is due to the number, `[heads]`.
    fn of_layer(&self, view: &LayerView<'_>, (start, length): (i64, i64)) -> Result<Vec<f64>> {
        let weights = view.window_attention(length as usize)?.f_narrow(4, start, length)?;
        let paid = weights.f_sum_dim_intlist([4i64].as_slice(), false, Kind::Double)?;
        let paid = paid.f_mean_dim([3i64].as_slice(), false, Kind::Double)?;
        Ok(Vec::try_from(paid.f_view([self.heads])?)?)
    }
}

impl Calibration for HeadKvCalibration {
    fn learn(&mut self, text: Text<'_>) -> Result<()> {
        let Asked { tokens, number } = self.ask(text)?;
        if number.1 == 0 {
            return Err(Error::input("the tokenizer makes nothing of a number"));
        }
        self.texts += 1;
        let needs = Needs { queries: Span::Last(number.1 as usize), ..Needs::KEYS_AND_VALUES };
        look_at(text.model, &tokens, needs, &mut |view| {
            let scores = self.of_layer(view, number)?;
            self.scores[view.layer()].iter_mut().zip(scores).for_each(|(all, score)| all.push(score));
            Ok(())
        })
    }

    fn write(&self, folder: &Path) -> Result<Vec<String>> {
        if self.texts == 0 {
            return Err(nothing_learned());
        }
        let layers = self.scores.iter().enumerate();
        let heads = layers.flat_map(|(layer, heads)| heads.iter().enumerate().map(move |head| (layer, head)));
        let scores = heads.map(|(layer, (head, scores))| (format!("{layer}-{head}"), json!(scores)));
        Ok(vec![write_json(folder, "head_scores.json", &scores.collect::<serde_json::Map<_, _>>().into())?])
    }
}
