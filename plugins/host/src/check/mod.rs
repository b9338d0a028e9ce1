//! Conformance of a plugin: each check in a process of its own, so that one that crashes is one finding.

mod answers;
mod bounds;
mod case;
mod description;
mod library;
mod manners;
mod sandbox;
mod shapes;
mod subject;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::describe::Description;
use subject::Subject;

pub use sandbox::Limits;

/// How a check went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "detail", rename_all = "lowercase")]
pub enum Outcome {
    /// The plugin does as it should.
    Ok,
    /// It does, and something about it is odd.
    Warning(String),
    /// The check does not apply, or an earlier one has to pass first.
    Skipped(String),
    /// It does not.
    Failed(String),
    /// The process of the check did not survive it.
    Crashed(String),
}

impl Outcome {
    /// Whether the plugin is at fault.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Crashed(_))
    }
}

/// One check of a library or of one of its presses, and how it went.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The press; `None` for the library.
    pub press: Option<String>,
    /// Name of the check.
    pub check: &'static str,
    /// What it asks for, a sentence without its subject.
    pub says: &'static str,
    /// How it went.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Why a check is not simply passed.
pub(crate) enum Fault {
    Failed(String),
    Warning(String),
    Skipped(String),
}

/// Result of a check that its process survived.
pub(crate) type Verdict = Result<(), Fault>;

/// For `?`: what goes wrong on the way is the plugin's fault.
impl<E: std::error::Error> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

fn failed(text: impl Into<String>) -> Verdict {
    Err(Fault::Failed(text.into()))
}

/// A check of one press.
pub(crate) struct PressCheck {
    name: &'static str,
    says: &'static str,
    /// The check that has to pass first.
    after: &'static str,
    run: fn(&Subject<'_>) -> Verdict,
}

const fn press_check(
    name: &'static str,
    says: &'static str,
    after: &'static str,
    run: fn(&Subject<'_>) -> Verdict,
) -> PressCheck {
    PressCheck { name, says, after, run }
}

/// A check of a library.
pub(crate) struct LibraryCheck {
    name: &'static str,
    says: &'static str,
    run: fn(&Path) -> Verdict,
}

/// All checks of a press, in their order.
fn press_checks() -> impl Iterator<Item = &'static PressCheck> {
    [description::CHECKS, answers::CHECKS, shapes::CHECKS, bounds::CHECKS, manners::CHECKS].into_iter().flatten()
}

/// Number of different checks.
pub fn count() -> usize {
    library::CHECKS.len() + press_checks().count()
}

/// Checks the library at `path` and each of its presses. Equal seeds give equal layers.
///
/// The process must have one thread only: every check is a copy of it.
///
/// # Errors
/// The process has several threads, or the system makes no more processes.
pub fn check(path: &Path, seed: u64, limits: &Limits) -> std::io::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut sound = true;
    for check in library::CHECKS {
        let outcome = if sound {
            outcome(sandbox::apart(limits, || (check.run)(path))?)
        } else {
            Outcome::Skipped("an earlier check of the library did not pass".into())
        };
        sound &= !outcome.is_fault();
        findings.push(Finding { press: None, check: check.name, says: check.says, outcome });
    }
    let presses = if sound { sandbox::apart(limits, || library::descriptions(path))?.ok() } else { None };
    for description in presses.into_iter().flatten() {
        press(path, &description, seed, limits, &mut findings)?;
    }
    Ok(findings)
}

fn press(
    path: &Path,
    description: &Description,
    seed: u64,
    limits: &Limits,
    findings: &mut Vec<Finding>,
) -> std::io::Result<()> {
    let first = findings.len();
    for check in press_checks() {
        let before = findings[first..].iter().find(|finding| finding.check == check.after);
        let outcome = match before {
            Some(before) if before.outcome != Outcome::Ok && !matches!(before.outcome, Outcome::Warning(_)) => {
                Outcome::Skipped(format!("`{}` did not pass", check.after))
            }
            _ => outcome(sandbox::apart(limits, || {
                let library = library::load(path)?;
                let found = library.presses().iter().find(|press| press.description == *description);
                let press = found.ok_or_else(|| Fault::Failed("its description changes from load to load".into()))?;
                (check.run)(&Subject::new(press, seed))
            })?),
        };
        let press = Some(description.name.clone());
        findings.push(Finding { press, check: check.name, says: check.says, outcome });
    }
    Ok(())
}

fn outcome(result: Result<Verdict, String>) -> Outcome {
    match result {
        Ok(Ok(())) => Outcome::Ok,
        Ok(Err(Fault::Warning(text))) => Outcome::Warning(text),
        Ok(Err(Fault::Skipped(text))) => Outcome::Skipped(text),
        Ok(Err(Fault::Failed(text))) => Outcome::Failed(text),
        Err(text) => Outcome::Crashed(text),
    }
}
