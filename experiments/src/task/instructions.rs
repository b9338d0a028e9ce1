//! Several instructions at once, of which a compressed cache may lose some first.

use pressroom::Result;
use pressroom::pipeline::Truncation;
use pressroom::press::Range;

use super::haystack::Hay;
use super::prose::Dice;
use super::{Facets, Metric, Sample, Samples, Setting, Turn, task};

task! {
    /// Several instructions at once, each tested by a turn of its own.
    ///
    /// The context begins with rules that give a word to say to each of several occasions; filler follows. Turn `n` is the
    /// occasion of rule `n`, so that the turns tell which rules are lost first. Facets: `rules` and `length`.
    "instructions" Instructions {
        /// Lengths of the contexts, tokens of the model's tokenizer.
        context_tokens: Vec<usize> = vec![2048], Range::closed(256.0, 1e8);
        /// Rules of a context.
        rules: usize = 8, Range::closed(1.0, 12.0);
        /// Samples of each length.
        samples: usize = 20, Range::closed(1.0, 1e8);
        /// Folder with the text files of the haystack; absent, prose is generated.
        haystack: Option<String> = None, Range::ANY;
    }
}

/// Occasions: as a rule names it, and as it happens.
const OCCASIONS: [(&str, &str); 12] = [
    ("greets you", "Good morning to you!"),
    ("thanks you", "Many thanks for the help."),
    ("says goodbye", "I must go now. Farewell!"),
    ("asks about the weather", "Will it rain tomorrow?"),
    ("asks what time it is", "What time is it?"),
    ("asks for your name", "What are you called?"),
    ("asks for a joke", "Tell me a joke, please."),
    ("talks about food", "I had soup and bread for lunch."),
    ("talks about music", "That violin concert was wonderful."),
    ("talks about money", "The loan costs me five percent."),
    ("apologises", "I am so sorry about yesterday."),
    ("is angry with you", "I am furious with you!"),
];

impl Instructions {
    fn samples(&self, setting: Setting<'_>) -> Result<Samples> {
        let hay = Hay::read(self.haystack.as_deref())?;
        let mut samples = Samples::new();
        for &tokens in &self.context_tokens {
            for _ in 0..self.samples {
                samples.push(Ok(sample(samples.len(), tokens, self.rules, &hay, setting)?));
            }
        }
        Ok(samples)
    }
}

fn sample(index: usize, tokens: usize, rules: usize, hay: &Hay, setting: Setting<'_>) -> Result<Sample> {
    let mut dice = Dice::of_sample(setting.seed, index);
    let mut occasions = OCCASIONS;
    dice.shuffle(&mut occasions);
    let words = dice.distinct(rules, Dice::coined);
    let mut before = String::from("Follow these rules to the end:\n");
    let mut turns = Vec::new();
    for (at, ((occasion, remark), word)) in occasions.iter().zip(words).enumerate() {
        before += &format!("{}. When somebody {occasion}, answer with the word {word}.\n", at + 1);
        turns.push(Turn {
            question: format!("\n\nSomebody says: \"{remark}\" Which word do you answer?"),
            answer_prefix: String::new(),
            answers: vec![word],
            max_new_tokens: 24,
            metric: Metric::StringMatch,
        });
    }
    before += "\nUntil then, read this:\n";
    Ok(Sample {
        context: hay.stack(&before, &[], tokens, setting.tokenizer, &mut dice)?,
        turns,
        task: "instructions".into(),
        facets: Facets::from([("rules".into(), rules as f64), ("length".into(), tokens as f64)]),
        truncation: Truncation::End,
    })
}
