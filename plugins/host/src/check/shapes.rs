//! Checks of layers of every shape, type and magnitude.

use super::case::{Case, Placement};
use super::subject::{Answer, Subject};
use super::{Fault, PressCheck, Verdict, failed, press_check};
use crate::layer::Dtype;
use crate::memory::Side;

pub(super) const CHECKS: &[PressCheck] = &[
    press_check("short", "answers contexts of a few tokens, or says why not", "valid", short),
    press_check("lengths", "answers lengths around powers of two", "valid", lengths),
    press_check("long", "answers a context of 3,000 tokens", "valid", long),
    press_check("float16", "answers keys in float16", "valid", float16),
    press_check("bfloat16", "answers keys in bfloat16", "valid", bfloat16),
    press_check("types-agree", "answers numbers in bfloat16 as the same numbers in float32", "valid", types_agree),
    press_check("zeros", "answers tensors of zeros", "valid", zeros),
    press_check("large", "answers numbers around 10,000", "valid", large),
    press_check("tiny", "answers numbers around 1e-20", "valid", tiny),
    press_check("one-token-repeated", "answers tokens that are all the same", "valid", repeated),
    press_check("after-a-stage", "answers what another press has left", "valid", after_a_stage),
    press_check("decoding", "answers in the decoding phase", "valid", decoding),
    press_check("query-groups", "answers query groups of 1, 2 and 8 heads", "valid", query_groups),
    press_check("head-sizes", "answers heads of 8, 64, 80 and 128 channels", "valid", head_sizes),
];

/// Asks about variants of a plain layer; all answers have to be valid.
fn all_valid(subject: &Subject<'_>, variants: impl IntoIterator<Item = fn(Case) -> Case>) -> Verdict {
    let instance = subject.instance()?;
    let plain = subject.plain(&instance)?;
    for variant in variants {
        let case = variant(plain);
        match subject.instance_for(&case) {
            Ok(instance) => subject.ask(&instance, &case)?.valid(case.tokens)?,
            Err(failure) if failure.has_reason() => {
                return Err(Fault::Skipped(format!("it refuses such a model: {failure}")));
            }
            Err(failure) => return failed(failure.text),
        }
    }
    Ok(())
}

fn short(subject: &Subject<'_>) -> Verdict {
    let instance = subject.instance()?;
    for tokens in [1, 2, 3, 5, 8, 17] {
        match subject.ask(&instance, &Case::plain(tokens, subject.seed)) {
            Ok(answer) => answer.valid(tokens)?,
            Err(failure) if failure.has_reason() => {}
            Err(failure) => return failed(format!("refuses a context of {tokens} tokens: {failure}")),
        }
    }
    Ok(())
}

fn lengths(subject: &Subject<'_>) -> Verdict {
    let instance = subject.instance()?;
    let plain = subject.plain(&instance)?;
    let from = plain.tokens.next_power_of_two();
    for tokens in [from - 1, from, from + 1, 2 * from - 1, 2 * from + 1] {
        subject.ask(&instance, &Case { tokens, ..plain })?.valid(tokens)?;
    }
    Ok(())
}

fn long(subject: &Subject<'_>) -> Verdict {
    all_valid(
        subject,
        [(|case| Case { tokens: case.tokens.max(3000), heads: 2, kv_heads: 1, ..case }) as fn(Case) -> Case],
    )
}

fn float16(subject: &Subject<'_>) -> Verdict {
    all_valid(subject, [(|case| Case { dtype: Dtype::F16, ..case }) as fn(Case) -> Case])
}

fn bfloat16(subject: &Subject<'_>) -> Verdict {
    all_valid(subject, [(|case| Case { dtype: Dtype::Bf16, ..case }) as fn(Case) -> Case])
}

fn types_agree(subject: &Subject<'_>) -> Verdict {
    let instance = subject.instance()?;
    let case = Case { rounded: true, ..subject.plain(&instance)? };
    let (full, half) = (subject.ask(&instance, &case)?, subject.ask(&instance, &Case { dtype: Dtype::Bf16, ..case })?);
    if let Answer::Kept(_) = full {
        return Err(Fault::Skipped("a decision has no scale on which it could be close".into()));
    }
    match full.far(&half, 0.02) {
        Some(difference) => failed(format!("gives in bfloat16 {difference}")),
        None => Ok(()),
    }
}

fn zeros(subject: &Subject<'_>) -> Verdict {
    all_valid(subject, [(|case| Case { scale: 0.0, ..case }) as fn(Case) -> Case])
}

fn large(subject: &Subject<'_>) -> Verdict {
    all_valid(
        subject,
        [(|case| Case { scale: 1e4, ..case }) as fn(Case) -> Case, |case| Case {
            scale: 1e4,
            dtype: Dtype::F16,
            ..case
        }],
    )
}

fn tiny(subject: &Subject<'_>) -> Verdict {
    all_valid(subject, [(|case| Case { scale: 1e-20, ..case }) as fn(Case) -> Case])
}

fn repeated(subject: &Subject<'_>) -> Verdict {
    all_valid(subject, [(|case| Case { repeated: true, ..case }) as fn(Case) -> Case])
}

fn after_a_stage(subject: &Subject<'_>) -> Verdict {
    all_valid(subject, [(|case| Case { gaps: true, ..case }) as fn(Case) -> Case])
}

fn decoding(subject: &Subject<'_>) -> Verdict {
    // There are fewer queries than declared: who reads as many reads past the end.
    let case = |case| Case { decoding: true, gaps: true, inputs: Placement::Tight(Side::End), ..case };
    all_valid(subject, [case as fn(Case) -> Case])
}

fn query_groups(subject: &Subject<'_>) -> Verdict {
    all_valid(
        subject,
        [
            (|case| Case { heads: 3, kv_heads: 3, ..case }) as fn(Case) -> Case,
            |case| Case { heads: 8, kv_heads: 4, ..case },
            |case| Case { heads: 8, kv_heads: 1, ..case },
        ],
    )
}

fn head_sizes(subject: &Subject<'_>) -> Verdict {
    all_valid(
        subject,
        [
            (|case| Case { head_dim: 8, ..case }) as fn(Case) -> Case,
            |case| Case { head_dim: 64, ..case },
            |case| Case { head_dim: 80, ..case },
            |case| Case { head_dim: 128, ..case },
        ],
    )
}
