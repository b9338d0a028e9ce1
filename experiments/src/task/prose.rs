//! Generated prose, and everything else that is drawn: reproducible from a seed.

use std::collections::BTreeSet;

use pressroom::random::derive_seed;

pub(super) const PLACES: [&str; 16] = [
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
pub(super) const PEOPLE: [&str; 16] = [
    "Amara", "Bertil", "Chiara", "Dmitri", "Elif", "Farid", "Greta", "Hiro", "Ines", "Jonas", "Katya", "Lorenzo",
    "Mei", "Nils", "Oona", "Priya",
];
pub(super) const THINGS: [&str; 16] = [
    "ladder", "notebook", "lamp", "violin", "map", "kettle", "barrel", "clock", "umbrella", "ledger", "rope",
    "painting", "basket", "mirror", "compass", "blanket",
];
pub(super) const ADJECTIVES: [&str; 12] = [
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

const CONSONANTS: [&str; 14] = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z"];
const VOWELS: [&str; 5] = ["a", "e", "i", "o", "u"];

/// Draws, reproducibly.
pub(super) struct Dice {
    seed: u64,
    drawn: u64,
}

impl Dice {
    /// The dice of sample `index` of a task.
    pub(super) fn of_sample(seed: u64, index: usize) -> Self {
        Self { seed: derive_seed(seed, index as u64), drawn: 0 }
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.drawn += 1;
        (derive_seed(self.seed, self.drawn) % bound as u64) as usize
    }

    /// One of a list.
    pub(super) fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    /// A number of five digits.
    pub(super) fn number(&mut self) -> String {
        (10_000 + self.below(90_000)).to_string()
    }

    /// 32 hexadecimal digits in the groups of a UUID.
    pub(super) fn uuid(&mut self) -> String {
        let mut group = |length: u32| format!("{:0width$x}", self.below(16usize.pow(length)), width = length as usize);
        let groups = [group(8), group(4), group(4), group(4), group(6) + &group(6)];
        groups.join("-")
    }

    /// A word of three syllables that is in no dictionary.
    pub(super) fn coined(&mut self) -> String {
        (0..3).map(|_| format!("{}{}", self.pick(&CONSONANTS), self.pick(&VOWELS))).collect()
    }

    /// An adjective and a thing, joined.
    pub(super) fn pair(&mut self) -> String {
        format!("{}-{}", self.pick(&ADJECTIVES), self.pick(&THINGS))
    }

    /// An adjective, a thing and a coined word, joined: there are many.
    pub(super) fn pair_and_word(&mut self) -> String {
        format!("{}-{}", self.pair(), self.coined())
    }

    /// `count` different texts that `draw` gives; it has to know that many.
    pub(super) fn distinct(&mut self, count: usize, draw: impl Fn(&mut Self) -> String) -> Vec<String> {
        let (mut seen, mut drawn) = (BTreeSet::new(), Vec::new());
        while drawn.len() < count {
            let one = draw(self);
            if seen.insert(one.clone()) {
                drawn.push(one);
            }
        }
        drawn
    }

    /// Puts a list into any order.
    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }

    /// A sentence of prose about nothing in particular.
    pub(super) fn sentence(&mut self) -> String {
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
