//! Checks of what a press says about itself, and of its life without a layer.

use serde_json::json;

use super::case::Case;
use super::subject::Subject;
use super::{Fault, PressCheck, Verdict, failed, press_check};
use crate::instance::Instance;
use pressroom::press::{ParamType, PressInfo, Range};
use pressroom_plugin_abi::{PRESSROOM_READS_CPU, PRESSROOM_READS_CUDA};

pub(super) const CHECKS: &[PressCheck] = &[
    press_check("summary", "is summed up in one sentence", "", summary),
    press_check("sections", "has the sections Idea, Formula and Paper", "", sections),
    press_check("parameter-texts", "says what each parameter does", "", parameter_texts),
    press_check("parameter-ranges", "limits its numbers", "", parameter_ranges),
    press_check("creates", "can be made with its default parameters", "", creates),
    press_check("creates-often", "can be made and freed many times", "creates", creates_often),
    press_check("bounds", "takes each number at its ends, or says why not", "creates", bounds),
    press_check("nonsense", "survives parameters that are nonsense", "creates", nonsense),
    press_check("needs-agree", "declares the same needs whenever it is asked", "creates", needs_agree),
    press_check("needs-known", "declares needs that the host knows", "creates", needs_known),
    press_check("prepares", "learns for which model it works, or says why it cannot", "creates", prepares),
];

fn info(subject: &Subject<'_>) -> Result<PressInfo, Fault> {
    subject.press.description.info().map_err(Fault::Failed)
}

fn summary(subject: &Subject<'_>) -> Verdict {
    let info = info(subject)?;
    let line = info.summary();
    if line.ends_with('.') && line.len() <= 120 {
        return Ok(());
    }
    failed(format!("the first line of its documentation is no sentence of at most 120 letters: {line:?}"))
}

fn sections(subject: &Subject<'_>) -> Verdict {
    let info = info(subject)?;
    let empty = |section: &&str| info.section(section).unwrap_or_default().is_empty();
    match ["Idea", "Formula", "Paper"].iter().find(|section| empty(section)) {
        Some(missing) => failed(format!("its documentation has no section `# {missing}`")),
        None => Ok(()),
    }
}

fn parameter_texts(subject: &Subject<'_>) -> Verdict {
    match info(subject)?.params.iter().find(|param| param.doc.trim().is_empty()) {
        Some(param) => failed(format!("does not say what `{}` does", param.name)),
        None => Ok(()),
    }
}

fn parameter_ranges(subject: &Subject<'_>) -> Verdict {
    let info = info(subject)?;
    let numbers = info.params.iter().filter(|param| matches!(param.kind, ParamType::Integer | ParamType::Number));
    match numbers.into_iter().find(|param| param.range == Range::ANY) {
        Some(param) => Err(Fault::Warning(format!("sets no limit to `{}`", param.name))),
        None => Ok(()),
    }
}

fn creates(subject: &Subject<'_>) -> Verdict {
    subject.create()?;
    Ok(())
}

fn creates_often(subject: &Subject<'_>) -> Verdict {
    let mut alive = Vec::new();
    for round in 0..64 {
        alive.push(subject.create()?);
        if round % 3 == 0 {
            alive.remove(0);
        }
    }
    Ok(())
}

/// Makes the press; an error has to come with a reason.
fn makes_or_says_why(subject: &Subject<'_>, params: &str) -> Result<bool, Fault> {
    match Instance::create(subject.press, params) {
        Ok(_) => Ok(true),
        Err(failure) if failure.has_reason() => Ok(false),
        Err(failure) => Err(Fault::Failed(format!("of {params}: {failure}"))),
    }
}

fn bounds(subject: &Subject<'_>) -> Verdict {
    for param in info(subject)?.params {
        let ends = [param.range.min, param.range.max];
        for end in ends.into_iter().filter(|end| end.abs() < f64::MAX) {
            let value = if param.kind == ParamType::Integer { json!(end as i64) } else { json!(end) };
            makes_or_says_why(subject, &subject.defaults(Some((&param.name, value))))?;
        }
    }
    Ok(())
}

fn nonsense(subject: &Subject<'_>) -> Verdict {
    for params in ["", "null", "[]", "{", "{\"no_such_parameter\": 1}", "{\"\u{0}\": \"\\ud800\"}", "\u{fffd}"] {
        makes_or_says_why(subject, params)?;
    }
    for param in info(subject)?.params {
        for value in [json!("text"), json!(-1), json!(1e300), json!([]), json!(null)] {
            makes_or_says_why(subject, &subject.defaults(Some((&param.name, value))))?;
        }
    }
    Ok(())
}

fn needs_agree(subject: &Subject<'_>) -> Verdict {
    let (one, other) = (subject.create()?, subject.create()?);
    let first = one.needs()?;
    if first == one.needs()? && first == other.needs()? {
        return Ok(());
    }
    failed("declares other needs at the second call, or for the second instance")
}

fn needs_known(subject: &Subject<'_>) -> Verdict {
    let needs = subject.create()?.needs()?;
    if needs.devices & !(PRESSROOM_READS_CPU | PRESSROOM_READS_CUDA) != 0 {
        return failed(format!("reads tensors on devices {:#x}, which this host does not know", needs.devices));
    }
    if needs.head_wise && subject.is_scorer() {
        return failed("says that heads may keep different numbers, which a scorer does not decide");
    }
    Ok(())
}

fn prepares(subject: &Subject<'_>) -> Verdict {
    let model = Case::plain(1, subject.seed).model();
    let instance = subject.create()?;
    for _ in 0..2 {
        match instance.prepare(&model) {
            Ok(()) => {}
            Err(failure) if failure.has_reason() => {
                return Err(Fault::Skipped(format!("it refuses the models of these checks: {failure}")));
            }
            Err(failure) => return failed(failure.text),
        }
    }
    Ok(())
}
