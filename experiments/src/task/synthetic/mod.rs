//! A synthetic suite with the thirteen kinds of RULER (Hsieh et al., 2024), in other words and at any length.

mod counting;
mod documents;
mod needles;
mod tracking;

use pressroom::Result;
use pressroom::pipeline::Truncation;
use pressroom::press::Range;

use super::haystack::Hay;
use super::prose::Dice;
use super::{Facets, Metric, Sample, Samples, Setting, Turn, task};

pressroom::choices! {
    /// What is asked.
    pub enum Kind {
        NiahSingle1 = "niah_single_1",
        NiahSingle2 = "niah_single_2",
        NiahSingle3 = "niah_single_3",
        NiahMultikey1 = "niah_multikey_1",
        NiahMultikey2 = "niah_multikey_2",
        NiahMultikey3 = "niah_multikey_3",
        NiahMultivalue = "niah_multivalue",
        NiahMultiquery = "niah_multiquery",
        Vt = "vt",
        Cwe = "cwe",
        Fwe = "fwe",
        Qa1 = "qa_1",
        Qa2 = "qa_2",
    }
}

task! {
    /// Thirteen synthetic kinds after RULER: needles, variables, frequent words, questions about documents.
    ///
    /// `niah_single_1` to `3`: one number in noise, in prose, one identifier in prose. `niah_multikey_1` to `3`: one needle
    /// among four, among nothing but needles, and both of identifiers. `niah_multivalue`: four values of one key.
    /// `niah_multiquery`: four keys at once. `vt`: variables that get one value along a chain. `cwe`: the ten common words of
    /// a list. `fwe`: the three most frequent words. `qa_1`, `qa_2`: a fact of one document, or of two, among others.
    /// Facets: `length`, and `depth` where there is one needle.
    "synthetic" Synthetic {
        /// Which kinds; absent, all.
        kinds: Option<Vec<Kind>> = None, Range::ANY;
        /// Lengths of the contexts, tokens of the model's tokenizer.
        context_tokens: Vec<usize> = vec![4096], Range::closed(512.0, 1e8);
        /// Samples of each kind and length.
        samples: usize = 10, Range::closed(1.0, 1e8);
        /// Folder with the text files of the haystack; absent, prose is generated.
        haystack: Option<String> = None, Range::ANY;
    }
}

const ALL: [Kind; 13] = [
    Kind::NiahSingle1,
    Kind::NiahSingle2,
    Kind::NiahSingle3,
    Kind::NiahMultikey1,
    Kind::NiahMultikey2,
    Kind::NiahMultikey3,
    Kind::NiahMultivalue,
    Kind::NiahMultiquery,
    Kind::Vt,
    Kind::Cwe,
    Kind::Fwe,
    Kind::Qa1,
    Kind::Qa2,
];

/// What a kind makes of one sample.
struct Made {
    context: String,
    question: String,
    answer_prefix: String,
    answers: Vec<String>,
    /// Of the one needle.
    depth: Option<f64>,
}

/// What a kind makes a sample of.
struct Stuff<'a> {
    /// Tokens of the context, at most.
    tokens: usize,
    hay: &'a Hay,
    setting: Setting<'a>,
}

impl Kind {
    fn make(self, stuff: &Stuff<'_>, dice: &mut Dice) -> Result<Made> {
        match self {
            Self::NiahSingle1 => needles::single(&Stuff { hay: &Hay::Noise, ..*stuff }, dice, Dice::number),
            Self::NiahSingle2 => needles::single(stuff, dice, Dice::number),
            Self::NiahSingle3 => needles::single(stuff, dice, Dice::uuid),
            Self::NiahMultikey1 => needles::among_four(stuff, dice),
            Self::NiahMultikey2 => needles::among_needles(stuff, dice, Dice::pair_and_word, Dice::number),
            Self::NiahMultikey3 => needles::among_needles(stuff, dice, Dice::uuid, Dice::uuid),
            Self::NiahMultivalue => needles::values(stuff, dice),
            Self::NiahMultiquery => needles::queries(stuff, dice),
            Self::Vt => tracking::variables(&Stuff { hay: &Hay::Noise, ..*stuff }, dice),
            Self::Cwe => counting::common(stuff, dice),
            Self::Fwe => counting::frequent(stuff, dice),
            Self::Qa1 => documents::one_hop(stuff, dice),
            Self::Qa2 => documents::two_hops(stuff, dice),
        }
    }

    /// RULER's limits.
    fn max_new_tokens(self) -> usize {
        match self {
            Self::Vt => 30,
            Self::Cwe => 120,
            Self::Fwe => 50,
            Self::Qa1 | Self::Qa2 => 32,
            _ => 128,
        }
    }

    fn metric(self) -> Metric {
        if matches!(self, Self::Qa1 | Self::Qa2) { Metric::AnyMatch } else { Metric::StringMatch }
    }
}

impl Synthetic {
    fn samples(&self, setting: Setting<'_>) -> Result<Samples> {
        let hay = Hay::read(self.haystack.as_deref())?;
        let mut samples = Samples::new();
        for &tokens in &self.context_tokens {
            for &kind in self.kinds.as_deref().unwrap_or(&ALL) {
                for _ in 0..self.samples {
                    let mut dice = Dice::of_sample(setting.seed, samples.len());
                    let made = kind.make(&Stuff { tokens, hay: &hay, setting }, &mut dice)?;
                    samples.push(Ok(sample(kind, tokens, made)));
                }
            }
        }
        Ok(samples)
    }
}

fn sample(kind: Kind, tokens: usize, made: Made) -> Sample {
    use pressroom::press::ParamValue;
    let task = kind.to_value().map_or_else(String::new, |name| name.to_string());
    let depth = made.depth.map(|depth| ("depth".to_owned(), depth));
    let turn = Turn {
        question: made.question,
        answer_prefix: made.answer_prefix,
        answers: made.answers,
        max_new_tokens: kind.max_new_tokens(),
        metric: kind.metric(),
    };
    Sample {
        context: made.context,
        turns: vec![turn],
        task,
        facets: depth.into_iter().chain([("length".to_owned(), tokens as f64)]).collect::<Facets>(),
        truncation: Truncation::End,
    }
}

#[cfg(test)]
mod tests;
