//! Verdicts on failures that were made on purpose.

use pressroom::random::derive_seed;

use super::*;
use crate::task::Metric;

/// Failures that are judged.
const FAILURES: u64 = 200;
const LAYERS: usize = 6;
const KV_HEADS: usize = 3;

/// Draws, reproducibly.
struct Dice(u64, u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.1 += 1;
        (derive_seed(self.0, self.1) % bound as u64) as usize
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

/// A context with a fact, cut into tokens as a tokenizer would: words with their spaces, digits alone.
struct Context {
    text: String,
    ends: Vec<usize>,
    place: &'static str,
    answer: String,
    number: bool,
}

fn context(dice: &mut Dice) -> Context {
    let place = dice.pick(&["harbour", "lighthouse", "mill", "archive", "quarry"]);
    let number = dice.below(3) > 0;
    let answer = match number {
        true => (10_000 + dice.below(90_000)).to_string(),
        false => {
            format!("{} {}", dice.pick(&["blue", "Striped", "heavy"]), dice.pick(&["Ladder", "violin", "compass"]))
        }
    };
    let filler = [
        "In the morning, Nils sold the green lamp.",
        "Nobody at the ferry knew 318 people.",
        "Greta went home with a rope.",
    ];
    let mut sentences: Vec<String> = (0..20).map(|_| dice.pick(&filler).to_owned()).collect();
    sentences.insert(dice.below(20), format!("The secret of the {place} is {answer}."));
    let text = sentences.join(" ");
    let mut ends = Vec::new();
    for (at, letter) in text.char_indices().skip(1) {
        let digit = letter.is_ascii_digit() && !text[..at].ends_with(' ');
        if letter == ' ' || letter == '.' || digit {
            ends.push(at);
        }
    }
    ends.push(text.len());
    Context { text, ends, place, answer, number }
}

/// A selection that keeps about half, and of the answer's tokens what `keep` says for each head.
fn kept(context: &Context, dice: &mut Dice, mut keep: impl FnMut(usize, &mut Dice) -> bool) -> Kept {
    let mut kept = Kept::nothing(LAYERS, KV_HEADS, context.ends.len());
    let answer: Vec<usize> = places(&context.text, &context.ends, &context.answer).into_iter().flatten().collect();
    for head in 0..LAYERS * KV_HEADS {
        for token in 0..context.ends.len() {
            let keeps = if answer.contains(&token) { keep(head, dice) } else { dice.below(2) == 0 };
            if keeps {
                kept.keep(head / KV_HEADS, head % KV_HEADS, token);
            }
        }
    }
    kept
}

/// What models say instead of an answer, as real ones did: another value, another topic, or no end.
fn wrong(context: &Context, dice: &mut Dice) -> (String, StopReason) {
    let place = context.place;
    match dice.below(5) {
        0 => (format!("The secret of the {place} is {}.", 10_000 + dice.below(90_000)), StopReason::Eos),
        1 => (format!("The secret of the {place} is that Greta went home with a rope."), StopReason::Eos),
        2 => ("I'm sorry for the confusion, but as an AI I don't know.".into(), StopReason::Eos),
        3 => (
            format!("Nobody at the {place} knew 318 people. The green lamp was sold in the morning, and"),
            StopReason::Length,
        ),
        _ => (format!("The secret of the {place} is a wooden box.\n\nThe secret of the ferry is"), StopReason::Length),
    }
}

/// The answer in a form that a string match does not take.
fn reformatted(context: &Context, dice: &mut Dice) -> String {
    let answer = &context.answer;
    if !context.number {
        return format!("It is the {}.", answer.replace(' ', dice.pick(&["-", "_", "  ", "\n", ", "])));
    }
    let (head, tail) = answer.split_at(answer.len() - 3);
    match dice.below(4) {
        0 => format!("The secret of the {} is {head},{tail}.", context.place),
        1 => format!("{head} {tail}"),
        2 => format!(
            "It is {}.",
            answer.chars().map(String::from).collect::<Vec<_>>().join(dice.pick(&[" ", "-", ", "]))
        ),
        _ => format!("**{head}.{tail}**"),
    }
}

fn record(context: &Context, prediction: &str, stop_reason: StopReason) -> Record {
    Record {
        press: "made on purpose".into(),
        ratio: Some(0.5),
        task: "needle".into(),
        prediction: prediction.to_owned(),
        answers: vec![context.answer.clone()],
        metric: Metric::StringMatch,
        score: Metric::StringMatch.score(prediction, std::slice::from_ref(&context.answer)),
        stop_reason: Some(stop_reason),
        context_tokens: context.ends.len(),
        achieved_ratio: 0.5,
        cache_bytes: 1,
        uncompressed_bytes: 2,
        ..Record::default()
    }
}

/// A failure of each kind in turn, with the reason that it was made with.
fn failure(seed: u64) -> (Context, Record, Record, Kept, Reason) {
    let dice = &mut Dice(derive_seed(20_261_124, seed), 0);
    let context = context(dice);
    let right = format!("The secret of the {} is {}.", context.place, context.answer);
    let all = LAYERS * KV_HEADS;
    let due =
        [Reason::EvictedEverywhere, Reason::EvictedInSome, Reason::KeptNotUsed, Reason::CutOff, Reason::Misformatted]
            [seed as usize % 5];
    let spared = dice.below(all);
    let kept = match due {
        Reason::EvictedEverywhere => kept(&context, dice, |_, _| false),
        Reason::KeptNotUsed => kept(&context, dice, |_, _| true),
        // One head keeps the answer, one does not, others as it comes.
        _ => kept(&context, dice, |head, dice| head == spared || (head != (spared + 1) % all && dice.below(3) == 0)),
    };
    let (prediction, stop_reason) = match due {
        Reason::Misformatted => (reformatted(&context, dice), StopReason::Eos),
        Reason::CutOff => {
            let end = right.len() - 2 - dice.below(context.answer.len() + 12);
            (right[..end].to_owned(), StopReason::Length)
        }
        _ => wrong(&context, dice),
    };
    // The limit that cuts a press's answer cuts the uncompressed run's as well, every other time.
    let full = if due == Reason::CutOff && dice.below(2) == 0 { prediction.clone() } else { right };
    let uncompressed = record(&context, &full, if full == prediction { StopReason::Length } else { StopReason::Eos });
    let record = record(&context, &prediction, stop_reason);
    (context, record, uncompressed, kept, due)
}

#[test]
fn verdicts_on_seeded_failures_are_right() {
    let mut wrong = Vec::new();
    for seed in 0..FAILURES {
        let (context, record, uncompressed, kept, due) = failure(seed);
        assert!(record.score < 1.0, "failure {seed} is none: {:?}", record.prediction);
        let uncompressed = Some(&uncompressed);
        let case = Case { record: &record, uncompressed, text: &context.text, ends: &context.ends, kept: Some(&kept) };
        let found = case.verdict();
        if found.reason != due {
            wrong.push(format!(
                "{:?} where {due:?} is due: {:?}, right is {:?}",
                found.reason, record.prediction, context.answer
            ));
        }
    }
    let right = FAILURES as usize - wrong.len();
    assert!(right * 10 >= FAILURES as usize * 9, "{right} of {FAILURES} right:\n{}", wrong.join("\n"));
}

#[test]
fn what_selections_do_not_tell_is_said() {
    let (context, record, uncompressed, kept, _) = failure(0);
    let case = |kept, text, ends| Case { record: &record, uncompressed: Some(&uncompressed), text, ends, kept };
    let told = |verdict: Verdict| verdict.told(Some(&kept), |_| "7".into());
    let reason = |case: Case<'_>| case.verdict().reason;
    assert_eq!(reason(case(None, &context.text, &context.ends)), Reason::Unknown);
    assert_eq!(reason(case(Some(&kept), "nothing here", &[12])), Reason::NotInContext);
    let gone = case(Some(&kept), &context.text, &context.ends).verdict();
    assert!(told(gone).starts_with("Evicted in every head: none of 18 keeps \"7\""));
    let lost = Case { uncompressed: Some(&record), ..case(Some(&kept), &context.text, &context.ends) };
    assert!(told(lost.verdict()).contains("it is not the press"));
    let right = Case { record: &uncompressed, ..case(Some(&kept), &context.text, &context.ends) };
    assert_eq!(right.verdict().reason, Reason::Right);
    // A graded score that is the uncompressed run's is no loss.
    let graded = Record { score: 0.4, metric: Metric::QaF1, ..record.clone() };
    let graded =
        Case { record: &graded, uncompressed: Some(&graded), ..case(Some(&kept), &context.text, &context.ends) };
    assert_eq!(graded.verdict().reason, Reason::AsUncompressed);
}
