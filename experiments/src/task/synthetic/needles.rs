//! Needles: numbers and identifiers under keys.

use pressroom::Result;

use super::{Made, Stuff};
use crate::task::haystack::fit;
use crate::task::prose::Dice;

const BEFORE: &str = "Some codes are hidden in the text below. Remember them; you will be asked for them.\n";

type Draw = fn(&mut Dice) -> String;

fn needle(key: &str, value: &str) -> String {
    format!("The code of {key} is {value}.")
}

/// Needles at any depths in filler, under the line that tells of them.
fn hidden(stuff: &Stuff<'_>, dice: &mut Dice, needles: Vec<(f64, String)>) -> Result<String> {
    stuff.hay.stack(BEFORE, &needles, stuff.tokens, stuff.setting.tokenizer, dice)
}

fn any_depth(dice: &mut Dice) -> f64 {
    dice.below(101) as f64 / 100.0
}

fn asked(context: String, keys: &[String], answers: Vec<String>, depth: Option<f64>) -> Made {
    let keys = keys.join(", ");
    let (codes, are) = if answers.len() > 1 { ("all codes", "codes") } else { ("the code", "code") };
    let verb = if answers.len() > 1 { "are" } else { "is" };
    Made {
        context,
        question: format!("\nWhat {verb} {codes} of {keys} in the text?"),
        answer_prefix: format!(" The {are} of {keys} in the text {verb}"),
        answers,
        depth,
    }
}

/// One needle.
pub(super) fn single(stuff: &Stuff<'_>, dice: &mut Dice, value: Draw) -> Result<Made> {
    let (key, value, depth) = (dice.pair(), value(dice), any_depth(dice));
    let context = hidden(stuff, dice, vec![(depth, needle(&key, &value))])?;
    Ok(asked(context, &[key], vec![value], Some(depth)))
}

/// One needle that is asked for, and three that are not.
pub(super) fn among_four(stuff: &Stuff<'_>, dice: &mut Dice) -> Result<Made> {
    let keys = dice.distinct(4, Dice::pair);
    let values = dice.distinct(4, Dice::number);
    let depths: Vec<f64> = keys.iter().map(|_| any_depth(dice)).collect();
    let needles = keys.iter().zip(&values).zip(&depths).map(|((key, value), depth)| (*depth, needle(key, value)));
    let context = hidden(stuff, dice, needles.collect())?;
    Ok(asked(context, &keys[..1], values[..1].to_vec(), Some(depths[0])))
}

/// One needle in a haystack of needles.
pub(super) fn among_needles(stuff: &Stuff<'_>, dice: &mut Dice, key: Draw, value: Draw) -> Result<Made> {
    // More needles than any tokenizer fits.
    let most = stuff.tokens / 4;
    let lines: Vec<(String, String)> = dice.distinct(most, key).into_iter().map(|key| (key, value(dice))).collect();
    let text = |count: usize| {
        let lines = lines.iter().take(count).map(|(key, value)| needle(key, value));
        BEFORE.to_owned() + &lines.collect::<Vec<_>>().join("\n")
    };
    let count = fit(1..=most, stuff.tokens, stuff.setting.tokenizer, text)?;
    let wanted = dice.below(count);
    let (key, value) = lines[wanted].clone();
    let depth = wanted as f64 / (count.max(2) - 1) as f64;
    Ok(asked(text(count), &[key], vec![value], Some(depth)))
}

/// Four values of one key.
pub(super) fn values(stuff: &Stuff<'_>, dice: &mut Dice) -> Result<Made> {
    let (key, values) = (dice.pair(), dice.distinct(4, Dice::number));
    let needles = values.iter().map(|value| (any_depth(dice), needle(&key, value))).collect();
    Ok(asked(hidden(stuff, dice, needles)?, &[key], values, None))
}

/// Four keys that are asked for at once.
pub(super) fn queries(stuff: &Stuff<'_>, dice: &mut Dice) -> Result<Made> {
    let (keys, values) = (dice.distinct(4, Dice::pair), dice.distinct(4, Dice::number));
    let needles = keys.iter().zip(&values).map(|(key, value)| (any_depth(dice), needle(key, value))).collect();
    Ok(asked(hidden(stuff, dice, needles)?, &keys, values, None))
}
