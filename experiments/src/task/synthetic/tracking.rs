//! Variables that get one value along a chain of assignments.

use pressroom::Result;

use super::{Made, Stuff};
use crate::task::prose::Dice;

/// Assignments after the first, as in RULER.
const HOPS: usize = 4;

const BEFORE: &str = "Assignments are hidden in the text below. Keep track of which variable has which value.\n\n";

/// One chain, its assignments in their order at any depths.
pub(super) fn variables(stuff: &Stuff<'_>, dice: &mut Dice) -> Result<Made> {
    let name = |dice: &mut Dice| (0..5).map(|_| char::from(b'A' + dice.below(26) as u8)).collect();
    let (names, value): (Vec<String>, _) = (dice.distinct(HOPS + 1, name), dice.number());
    let mut depths: Vec<f64> = names.iter().map(|_| dice.below(101) as f64 / 100.0).collect();
    depths.sort_by(f64::total_cmp);
    let assigned = std::iter::once(&value).chain(&names);
    let lines = names.iter().zip(assigned).map(|(name, from)| match from == &value {
        true => format!("VAR {name} = {value}"),
        false => format!("VAR {name} = VAR {from}"),
    });
    let needles: Vec<(f64, String)> = depths.into_iter().zip(lines).collect();
    Ok(Made {
        context: stuff.hay.stack(BEFORE, &needles, stuff.tokens, stuff.setting.tokenizer, dice)?,
        question: format!("\nWhich variables have the value {value} in the end?"),
        answer_prefix: format!(
            " By the assignments in the text, these {} variables have the value {value}:",
            names.len()
        ),
        answers: names,
        depth: None,
    })
}
