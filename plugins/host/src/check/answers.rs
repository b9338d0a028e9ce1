//! Checks of what a press answers about one layer.

use std::sync::Barrier;
use std::time::Instant;

use super::case::{Case, Placement};
use super::subject::{Answer, Row, Subject, kept};
use super::{Fault, PressCheck, Verdict, failed, press_check};
use crate::call::Failure;
use crate::instance::Instance;

pub(super) const CHECKS: &[PressCheck] = &[
    press_check("answers", "answers a plain layer", "prepares", answers),
    press_check("complete", "writes everything that it is to write", "answers", complete),
    press_check("valid", "writes numbers that the host accepts", "complete", valid),
    press_check("ordered", "names entries once, in ascending order", "valid", ordered),
    press_check("keeps-something", "keeps an entry of every sequence", "valid", keeps_something),
    press_check("budget", "keeps no more than its budget", "valid", budget),
    press_check("heads-agree", "keeps the same number in every head, unless it says otherwise", "valid", heads_agree),
    press_check("deterministic", "answers the same when asked again", "valid", deterministic),
    press_check("instances-agree", "answers the same in every instance", "deterministic", instances_agree),
    press_check("no-history", "answers the same whatever it was asked before", "deterministic", no_history),
    press_check("threads", "answers several threads at a time as one", "no-history", threads),
    press_check("batch", "answers a batch as each of its sequences alone", "no-history", batch),
    press_check("strides", "answers tensors with gaps as those without", "deterministic", strides),
];

/// The press and its answer about a plain layer.
fn plain(subject: &Subject<'_>) -> Result<(Instance, Case, Answer), Fault> {
    let instance = subject.instance()?;
    let case = subject.plain(&instance)?;
    let answer = subject.ask(&instance, &case)?;
    Ok((instance, case, answer))
}

/// The rows of a selector's answer.
fn rows(subject: &Subject<'_>) -> Result<(Case, Vec<Row>), Fault> {
    match plain(subject)? {
        (_, case, Answer::Kept(rows)) => Ok((case, rows)),
        _ => Err(Fault::Skipped("a scorer ranks; the host decides".into())),
    }
}

fn answers(subject: &Subject<'_>) -> Verdict {
    plain(subject)?;
    Ok(())
}

fn complete(subject: &Subject<'_>) -> Verdict {
    plain(subject)?.2.complete()
}

fn valid(subject: &Subject<'_>) -> Verdict {
    let (_, case, answer) = plain(subject)?;
    answer.valid(case.tokens)
}

fn ordered(subject: &Subject<'_>) -> Verdict {
    let (_, rows) = rows(subject)?;
    match rows.iter().flat_map(|(_, row)| row.windows(2)).find(|pair| pair[0] >= pair[1]) {
        Some(pair) if pair[0] == pair[1] => failed(format!("names entry {} twice", pair[0])),
        Some(pair) => failed(format!("names entry {} after entry {}", pair[1], pair[0])),
        None => Ok(()),
    }
}

fn keeps_something(subject: &Subject<'_>) -> Verdict {
    let (case, rows) = rows(subject)?;
    if rows.chunks(case.kv_heads).any(|heads| heads.iter().all(|(count, _)| *count == 0)) {
        return failed("keeps nothing of a sequence");
    }
    Ok(())
}

fn budget(subject: &Subject<'_>) -> Verdict {
    let (case, _) = rows(subject)?;
    let instance = subject.instance()?;
    for ratio in [0.25, 0.5, 0.9] {
        let Answer::Kept(rows) = subject.ask_at(&instance, &case, ratio, Placement::Roomy)? else { return Ok(()) };
        let total: i64 = rows.iter().map(|(count, _)| count).sum();
        let due = kept(case.tokens, ratio) * case.kv_heads as i64;
        if total > due {
            return failed(format!("keeps {total} entries of {due} at the compression ratio {ratio}"));
        }
        if total < due {
            return Err(Fault::Warning(format!("keeps {total} entries of {due} at the compression ratio {ratio}")));
        }
    }
    Ok(())
}

fn heads_agree(subject: &Subject<'_>) -> Verdict {
    let (_, rows) = rows(subject)?;
    let head_wise = subject.instance()?.needs()?.head_wise;
    if head_wise || rows.windows(2).all(|pair| pair[0].0 == pair[1].0) {
        return Ok(());
    }
    failed("keeps different numbers in its heads, and does not declare that it may")
}

fn deterministic(subject: &Subject<'_>) -> Verdict {
    let (instance, case, first) = plain(subject)?;
    for _ in 0..3 {
        if !first.same(&subject.ask(&instance, &case)?) {
            return failed("answers something else when it is asked the same again");
        }
    }
    Ok(())
}

fn instances_agree(subject: &Subject<'_>) -> Verdict {
    let (_, case, first) = plain(subject)?;
    if first.same(&subject.ask(&subject.instance()?, &case)?) {
        return Ok(());
    }
    failed("answers something else in a second instance")
}

fn no_history(subject: &Subject<'_>) -> Verdict {
    let (instance, case, first) = plain(subject)?;
    let others = [Case { seed: case.seed ^ 1, ..case }, Case { tokens: case.tokens + 7, ..case }];
    for other in others {
        // What it answers about others is another check's concern.
        let _ = subject.ask(&instance, &other);
        if !first.same(&subject.ask(&instance, &case)?) {
            return failed("answers something else after it was asked about another layer");
        }
    }
    Ok(())
}

/// How often several threads ask at the same time at most, and for how long about.
const ROUNDS: usize = 32;
const SECONDS: f64 = 0.5;

/// About how many tokens at least: long calls overlap.
const LONG: usize = 2000;

fn threads(subject: &Subject<'_>) -> Verdict {
    let instance = subject.instance()?;
    let case = subject.plain(&instance)?;
    let tokens = case.tokens.max(LONG);
    let cases: Vec<Case> = (0..4).map(|thread| Case { seed: case.seed ^ thread, tokens, ..case }).collect();
    let start = Instant::now();
    subject.ask(&instance, &cases[0])?;
    let rounds = ((SECONDS / start.elapsed().as_secs_f64()) as usize).clamp(2, ROUNDS);
    let together = Barrier::new(cases.len());
    let asks = |case: &Case| -> Result<bool, Failure> {
        let made = subject.make(&instance, case);
        // As good as any: if all others agree with it, none depends on the other threads.
        let first = made.as_ref().map(|made| subject.ask_about(&instance, made, case, 0.5, Placement::Roomy));
        let mut agree = true;
        for _ in 0..rounds {
            together.wait();
            if let (Ok(made), Ok(Ok(first))) = (&made, &first) {
                let again = subject.ask_about(&instance, made, case, 0.5, Placement::Roomy);
                agree &= again.is_ok_and(|answer| answer.same(first));
            }
        }
        first.map_err(Clone::clone)??;
        Ok(agree)
    };
    let agree = std::thread::scope(|scope| -> Result<bool, Failure> {
        let started: Vec<_> = cases.iter().map(|case| scope.spawn(|| asks(case))).collect();
        started.into_iter().try_fold(true, |all, thread| match thread.join() {
            Ok(agree) => Ok(all & agree?),
            Err(_) => Ok(false),
        })
    })?;
    if agree { Ok(()) } else { failed("answers something else when several threads ask at a time") }
}

/// What sums in another order may change, as a part of the range of the scores.
const ROUNDING: f32 = 1e-5;

fn batch(subject: &Subject<'_>) -> Verdict {
    let instance = subject.instance()?;
    let case = subject.plain(&instance)?;
    let together = subject.ask(&instance, &Case { batch: 2, ..case })?;
    for sequence in 0..2 {
        let alone = subject.ask(&instance, &Case { first_sequence: sequence, ..case })?;
        if let Some(difference) = alone.far(&part(&together, sequence), ROUNDING) {
            return failed(format!("gives for sequence {sequence} of a batch {difference}"));
        }
    }
    Ok(())
}

/// The half of an answer about two sequences.
fn part(answer: &Answer, sequence: usize) -> Answer {
    fn half<T: Clone>(all: &[T], sequence: usize) -> Vec<T> {
        all.chunks(all.len().div_ceil(2).max(1)).nth(sequence).map(<[T]>::to_vec).unwrap_or_default()
    }
    match answer {
        Answer::Scores(scores) => Answer::Scores(half(scores, sequence)),
        Answer::Kept(rows) => Answer::Kept(half(rows, sequence)),
    }
}

fn strides(subject: &Subject<'_>) -> Verdict {
    let (instance, case, first) = plain(subject)?;
    match first.far(&subject.ask(&instance, &Case { strided: true, ..case })?, ROUNDING) {
        Some(difference) => failed(format!("gives for the same numbers with other strides {difference}")),
        None => Ok(()),
    }
}
