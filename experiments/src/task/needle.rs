//! Needle in a haystack: one fact in filler, asked for afterwards, over lengths and depths.

use pressroom::Result;
use pressroom::pipeline::Truncation;
use pressroom::press::Range;

use super::haystack::Hay;
use super::prose::{Dice, PLACES};
use super::{Facets, Metric, Sample, Samples, Setting, Turn, task};

task! {
    /// Needle in a haystack: one fact hidden in filler text.
    ///
    /// The fact is the secret number of a place; filler is generated prose or the text files of a folder. Facets:
    /// `depth` and `length`.
    "needle" Needle {
        /// Lengths of the contexts, tokens of the model's tokenizer.
        context_tokens: Vec<usize> = vec![2048], Range::closed(64.0, 1e8);
        /// Depths of the needle, from 0 (first) to 1 (last); absent, the samples of a length spread evenly.
        depths: Option<Vec<f64>> = None, Range::closed(0.0, 1.0);
        /// Samples of each length, and of each depth where depths are given.
        samples: usize = 50, Range::closed(1.0, 1e8);
        /// Folder with the text files of the haystack; absent, prose is generated.
        haystack: Option<String> = None, Range::ANY;
    }
}

impl Needle {
    fn samples(&self, setting: Setting<'_>) -> Result<Samples> {
        let hay = Hay::read(self.haystack.as_deref())?;
        let spread = |at: usize| if self.samples > 1 { at as f64 / (self.samples - 1) as f64 } else { 0.5 };
        let depths: Vec<f64> = match &self.depths {
            None => (0..self.samples).map(spread).collect(),
            Some(depths) => depths.iter().flat_map(|depth| std::iter::repeat_n(*depth, self.samples)).collect(),
        };
        let cells = self.context_tokens.iter().flat_map(|tokens| depths.iter().map(move |depth| (*tokens, *depth)));
        cells.enumerate().map(|(index, (tokens, depth))| Ok(Ok(sample(index, tokens, depth, &hay, setting)?))).collect()
    }
}

fn sample(index: usize, tokens: usize, depth: f64, hay: &Hay, setting: Setting<'_>) -> Result<Sample> {
    let mut dice = Dice::of_sample(setting.seed, index);
    let place = dice.pick(&PLACES);
    let number = dice.number();
    let needle = format!("The secret number of the {place} is {number}.");
    let turn = Turn {
        question: format!("\n\nWhat is the secret number of the {place}?"),
        answer_prefix: String::new(),
        answers: vec![number],
        max_new_tokens: 24,
        metric: Metric::StringMatch,
    };
    Ok(Sample {
        context: hay.stack("", &[(depth, needle)], tokens, setting.tokenizer, &mut dice)?,
        turns: vec![turn],
        task: "needle".into(),
        facets: Facets::from([("depth".into(), depth), ("length".into(), tokens as f64)]),
        truncation: Truncation::End,
    })
}
