//! A needle that shares no word with its question: it is found by what it means.

use pressroom::Result;
use pressroom::pipeline::Truncation;
use pressroom::press::Range;

use super::haystack::Hay;
use super::prose::Dice;
use super::{Facets, Metric, Sample, Samples, Setting, Turn, task};

task! {
    /// A needle that shares no word with its question.
    ///
    /// Who did something is asked for in other words than the text tells it in, as in NoLiMa (Modarressi et al., 2025,
    /// <https://arxiv.org/abs/2502.05167>), so that matching words finds nothing. Facets: `depth` and `length`.
    "unlike" Unlike {
        /// Lengths of the contexts, tokens of the model's tokenizer.
        context_tokens: Vec<usize> = vec![2048], Range::closed(64.0, 1e8);
        /// Samples of each length; their needles lie at depths spread evenly.
        samples: usize = 48, Range::closed(1.0, 1e8);
        /// Folder with the text files of the haystack; absent, prose is generated.
        haystack: Option<String> = None, Range::ANY;
    }
}

/// What somebody did, and a question that only that answers.
const PAIRS: [(&str, &str); 12] = [
    ("has an uncle who fixes teeth in the village", "Which person is related to a dentist?"),
    ("grew up within sight of the Eiffel Tower", "Which person spent childhood in Paris?"),
    ("never touches milk, cheese or eggs", "Which person is vegan?"),
    ("keeps a cello between the knees every evening", "Which person plays a string instrument?"),
    ("was woken by pain in a molar", "Which person had toothache?"),
    ("speaks of pyramids as of old neighbours", "Which person comes from Egypt?"),
    ("got a medal for being first over the marathon's line", "Which person won a race?"),
    ("cannot tell red apples from green ones", "Which person is colour-blind?"),
    ("writes every letter with the left", "Which person does not use the right hand?"),
    ("sleeps by day and guards a bank by night", "Which person works as a watchman?"),
    ("crossed the Alps with nothing but skis", "Which person likes winter sports?"),
    ("buried a husband in spring", "Which person is a widow?"),
];

impl Unlike {
    fn samples(&self, setting: Setting<'_>) -> Result<Samples> {
        let hay = Hay::read(self.haystack.as_deref())?;
        let mut samples = Samples::new();
        for &tokens in &self.context_tokens {
            for at in 0..self.samples {
                let depth = if self.samples > 1 { at as f64 / (self.samples - 1) as f64 } else { 0.5 };
                samples.push(Ok(sample(samples.len(), tokens, depth, &hay, setting)?));
            }
        }
        Ok(samples)
    }
}

/// Names of this task alone: the filler's people do all kinds of things.
const NAMES: [&str; 8] = ["Quentin", "Rosalind", "Sigurd", "Tamsin", "Ulrike", "Viggo", "Wanda", "Yusuf"];

fn sample(index: usize, tokens: usize, depth: f64, hay: &Hay, setting: Setting<'_>) -> Result<Sample> {
    let mut dice = Dice::of_sample(setting.seed, index);
    let name = dice.pick(&NAMES);
    let (deed, question) = PAIRS[dice.below(PAIRS.len())];
    let turn = Turn {
        question: format!("\n\n{question} Give the name only."),
        answer_prefix: String::new(),
        answers: vec![name.to_owned()],
        max_new_tokens: 24,
        metric: Metric::StringMatch,
    };
    Ok(Sample {
        context: hay.stack("", &[(depth, format!("{name} {deed}."))], tokens, setting.tokenizer, &mut dice)?,
        turns: vec![turn],
        task: "unlike".into(),
        facets: Facets::from([("depth".into(), depth), ("length".into(), tokens as f64)]),
        truncation: Truncation::End,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::task::prose::PEOPLE;

    #[test]
    fn needle_and_question_share_no_word() {
        let words = |text: &str| -> BTreeSet<String> {
            let bare = text.to_lowercase().replace(|letter: char| !letter.is_alphanumeric(), " ");
            bare.split_whitespace().map(str::to_owned).collect()
        };
        // Words that tell nothing of what is meant.
        let empty = words("a an the is in of to who which person has was and or as for does not give name only");
        for (deed, question) in PAIRS {
            let shared: Vec<String> = words(deed).intersection(&words(question)).cloned().collect();
            assert!(shared.iter().all(|word| empty.contains(word)), "{deed} / {question}: {shared:?}");
        }
        assert!(NAMES.iter().all(|name| !PEOPLE.contains(name)));
    }
}
