//! Checks of what a press does to memory that is not its own. A press that errs here does not survive the check.

use super::case::{Case, Placement};
use super::subject::Subject;
use super::{PressCheck, Verdict, press_check};
use crate::memory::Side;

pub(super) const CHECKS: &[PressCheck] = &[
    press_check("inputs-unwritten", "writes to no tensor that it is shown", "answers", inputs_unwritten),
    press_check("inputs-end", "reads nothing after the end of a tensor", "answers", inputs_end),
    press_check("inputs-start", "reads nothing before the start of a tensor", "answers", inputs_start),
    press_check("results-end", "writes nothing after the end of its results", "answers", results_end),
    press_check("results-start", "writes nothing before the start of its results", "answers", results_start),
    press_check("views-returned", "uses no view after the call it was lent for", "answers", views_returned),
];

fn asks(subject: &Subject<'_>, variant: fn(Case) -> Case, results: Placement) -> Verdict {
    let instance = subject.instance()?;
    let case = variant(subject.plain(&instance)?);
    subject.ask_at(&instance, &case, 0.5, results)?;
    Ok(())
}

fn inputs_unwritten(subject: &Subject<'_>) -> Verdict {
    asks(subject, |case| Case { read_only: true, ..case }, Placement::Roomy)
}

fn inputs_end(subject: &Subject<'_>) -> Verdict {
    asks(subject, |case| Case { inputs: Placement::Tight(Side::End), ..case }, Placement::Roomy)
}

fn inputs_start(subject: &Subject<'_>) -> Verdict {
    asks(subject, |case| Case { inputs: Placement::Tight(Side::Start), ..case }, Placement::Roomy)
}

fn results_end(subject: &Subject<'_>) -> Verdict {
    asks(subject, |case| case, Placement::Tight(Side::End))
}

fn results_start(subject: &Subject<'_>) -> Verdict {
    asks(subject, |case| case, Placement::Tight(Side::Start))
}

/// The memory of every layer is taken back as soon as it was answered.
fn views_returned(subject: &Subject<'_>) -> Verdict {
    let instance = subject.instance()?;
    let case = Case { taken_back: true, ..subject.plain(&instance)? };
    for _ in 0..4 {
        subject.ask(&instance, &case)?;
    }
    Ok(())
}
