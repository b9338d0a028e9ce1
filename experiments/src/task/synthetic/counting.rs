//! Words that are more frequent than others.

use pressroom::Result;

use super::{Made, Stuff};
use crate::task::haystack::fit;
use crate::task::prose::Dice;

/// Common words, and how often they and the others are listed. These are RULER's numbers, which contexts below 4,096
/// tokens have no room for: there they are fewer.
const COMMON: usize = 10;
const OFTEN: usize = 30;
const SELDOM: usize = 3;

/// The ten words of a numbered list that are listed most often.
pub(super) fn common(stuff: &Stuff<'_>, dice: &mut Dice) -> Result<Made> {
    let words = dice.distinct(stuff.tokens / SELDOM + COMMON, Dice::coined);
    let (frequent, rest) = words.split_at(COMMON);
    let often = (stuff.tokens * OFTEN / 4096).clamp(4, OFTEN);
    let seldom = if often < OFTEN { 1 } else { SELDOM };
    let seed = dice.below(usize::MAX >> 1) as u64;
    let text = |others: usize| {
        let mut list: Vec<&String> = frequent.iter().flat_map(|word| std::iter::repeat_n(word, often)).collect();
        list.extend(rest.iter().take(others).flat_map(|word| std::iter::repeat_n(word, seldom)));
        Dice::of_sample(seed, others).shuffle(&mut list);
        let lines = list.iter().enumerate().map(|(at, word)| format!("{}. {word}", at + 1));
        format!(
            "Below is a list of words. A few of them are listed more often than all others. Remember those.\n{}",
            lines.collect::<Vec<_>>().join(" ")
        )
    };
    let others = fit(0..=rest.len(), stuff.tokens, stuff.setting.tokenizer, text)?;
    Ok(Made {
        context: text(others),
        question: format!("\nWhich {COMMON} words are listed most often?"),
        answer_prefix: format!(" The {COMMON} words that are listed most often are:"),
        answers: frequent.to_vec(),
        depth: None,
    })
}

/// The three most frequent words of a text whose frequencies fall with the square of the rank, the first rank being
/// dots (as RULER's).
pub(super) fn frequent(stuff: &Stuff<'_>, dice: &mut Dice) -> Result<Made> {
    let words = dice.distinct(50, Dice::coined);
    let seed = dice.below(usize::MAX >> 1) as u64;
    let text = |count: usize| {
        let total: f64 = (1..=words.len() + 1).map(|rank| (rank as f64).powi(-2)).sum();
        let share = |rank: usize| ((rank as f64).powi(-2) / total * count as f64).round() as usize;
        let mut list = vec!["..."; share(1)];
        for (rank, word) in (2..).zip(&words) {
            list.extend(std::iter::repeat_n(word.as_str(), share(rank)));
        }
        Dice::of_sample(seed, count).shuffle(&mut list);
        format!("The text below is in code. Keep count of how often each word of it occurs.\n{}", list.join(" "))
    };
    // Below this, the third and the fourth word are too close to tell.
    let count = fit(100..=stuff.tokens, stuff.tokens, stuff.setting.tokenizer, text)?;
    Ok(Made {
        context: text(count),
        question: "\nDots aside, which three words occur most often in the text? Do not explain.".into(),
        answer_prefix: " The three words that occur most often are:".into(),
        answers: words[..3].to_vec(),
        depth: None,
    })
}
