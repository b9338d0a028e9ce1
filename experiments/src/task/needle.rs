//! Needle in a haystack: one fact in generated prose, asked for afterwards.

use pressroom::model::TextTokenizer;
use pressroom::random::derive_seed;
use pressroom::{Error, Result};

use super::{Facets, Metric, Sample, Turn};

/// Size and seed of the task.
#[derive(Clone, Copy, Debug)]
pub struct Needle {
    /// Length of a context, tokens of the model's tokenizer.
    pub context_tokens: usize,
    /// Samples; their needles lie at depths spread evenly over the context.
    pub samples: usize,
    /// Most tokens of an answer.
    pub max_new_tokens: usize,
    /// Seed of the prose and the needles.
    pub seed: u64,
}

const PLACES: [&str; 16] = [
    "harbour",
    "lighthouse",
    "orchard",
    "bakery",
    "archive",
    "observatory",
    "mill",
    "quarry",
    "theatre",
    "greenhouse",
    "station",
    "workshop",
    "library",
    "vineyard",
    "ferry",
    "market",
];
const PEOPLE: [&str; 16] = [
    "Amara", "Bertil", "Chiara", "Dmitri", "Elif", "Farid", "Greta", "Hiro", "Ines", "Jonas", "Katya", "Lorenzo",
    "Mei", "Nils", "Oona", "Priya",
];
const THINGS: [&str; 16] = [
    "ladder", "notebook", "lamp", "violin", "map", "kettle", "barrel", "clock", "umbrella", "ledger", "rope",
    "painting", "basket", "mirror", "compass", "blanket",
];
const ADJECTIVES: [&str; 12] = [
    "old",
    "green",
    "heavy",
    "broken",
    "narrow",
    "quiet",
    "painted",
    "borrowed",
    "wooden",
    "forgotten",
    "striped",
    "tall",
];
const VERBS: [&str; 12] = [
    "carried",
    "repaired",
    "hid",
    "sold",
    "measured",
    "cleaned",
    "described",
    "found",
    "moved",
    "painted",
    "weighed",
    "lost",
];
const TIMES: [&str; 10] = [
    "In the morning",
    "After the storm",
    "On the second day",
    "Before dinner",
    "Late in the autumn",
    "Without a word",
    "For the third time",
    "As everyone expected",
    "During the festival",
    "When the bell rang",
];

/// Draws from lists, reproducibly.
struct Dice {
    seed: u64,
    drawn: u64,
}

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.drawn += 1;
        (derive_seed(self.seed, self.drawn) % bound as u64) as usize
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn sentence(&mut self) -> String {
        let (who, other) = (self.pick(&PEOPLE), self.pick(&PEOPLE));
        let (place, thing, adjective) = (self.pick(&PLACES), self.pick(&THINGS), self.pick(&ADJECTIVES));
        let (verb, time) = (self.pick(&VERBS), self.pick(&TIMES));
        match self.below(6) {
            0 => format!("{time}, {who} {verb} the {adjective} {thing} behind the {place}."),
            1 => format!("{who} and {other} talked about the {thing} all the way to the {place}."),
            2 => format!("Nobody at the {place} remembered who had {verb} the {adjective} {thing}."),
            3 => format!("{time}, the {place} was empty, and {who} went home with a {thing}."),
            4 => format!("\"The {thing} is too {adjective},\" said {who}, but {other} {verb} it anyway."),
            _ => format!("There was a {adjective} {thing} in the {place}, and {other} {verb} it for {who}."),
        }
    }
}

/// Generates the task's samples. The same seed and tokenizer give the same samples.
///
/// # Errors
/// The context is too short for a needle; the tokenizer fails.
pub fn needle_samples(task: Needle, tokenizer: &TextTokenizer) -> Result<Vec<Sample>> {
    let least = 64;
    if task.context_tokens < least {
        return Err(Error::input(format!(
            "a needle needs a context of at least {least} tokens, not {}",
            task.context_tokens
        )));
    }
    (0..task.samples).map(|index| sample(task, index, tokenizer)).collect()
}

fn sample(task: Needle, index: usize, tokenizer: &TextTokenizer) -> Result<Sample> {
    let mut dice = Dice { seed: derive_seed(task.seed, index as u64), drawn: 0 };
    let place = dice.pick(&PLACES);
    let number = 10_000 + dice.below(90_000);
    let needle = format!("The secret number of the {place} is {number}.");
    let budget = task.context_tokens.saturating_sub(tokenizer.encode(&needle)?.len());
    let mut sentences = Vec::new();
    let mut used = 0;
    loop {
        let sentence = dice.sentence();
        // A sentence is encoded as it stands in the text, with the space before it.
        used += tokenizer.encode(&format!(" {sentence}"))?.len();
        if used > budget {
            break;
        }
        sentences.push(sentence);
    }
    let depth = if task.samples > 1 { index as f64 / (task.samples - 1) as f64 } else { 0.5 };
    sentences.insert((depth * sentences.len() as f64).round() as usize, needle);
    Ok(Sample {
        context: sentences.join(" "),
        turns: vec![Turn {
            question: format!("\n\nWhat is the secret number of the {place}?"),
            answer_prefix: String::new(),
            answers: vec![number.to_string()],
            max_new_tokens: task.max_new_tokens,
        }],
        task: "needle".into(),
        metric: Metric::StringMatch,
        facets: Facets::from([("depth".into(), depth), ("length".into(), task.context_tokens as f64)]),
    })
}
