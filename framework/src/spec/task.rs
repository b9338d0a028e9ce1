//! The section `[task]`: what is asked. Which tasks there are is data, as with presses.

use serde::Serialize;

use super::params::params;
use super::report::Mistakes;
use super::table::{Table, unknown};
use crate::pipeline::Regime;
use crate::press::{ParamInfo, Params, with_defaults};

/// The task that `file = "x.jsonl"` without a name means.
pub const FILE: &str = "file";

/// A task that `[task]` can name.
#[derive(Clone, Debug, Serialize)]
pub struct TaskInfo {
    /// Name in TOML.
    pub name: String,
    /// Documentation in Markdown, a summary line first.
    pub doc: String,
    /// Its parameters in the order of declaration.
    pub params: Vec<ParamInfo>,
}

impl TaskInfo {
    fn takes(&self, name: &str) -> bool {
        self.params.iter().any(|param| param.name == name)
    }
}

/// `[task]`: what is asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskSpec {
    /// Where contexts and questions come from.
    pub name: String,
    /// The task's parameters, defaults included.
    #[serde(flatten)]
    pub params: Params,
    /// Whether the presses see the question.
    pub question: Regime,
    /// Most tokens of an answer; `None` leaves it to the task or the file.
    pub max_new_tokens: Option<usize>,
    /// Whether contexts are used as they are, without the model's chat template.
    pub raw: bool,
}

impl TaskSpec {
    pub(super) fn read(mut table: Table<'_>, tasks: &[TaskInfo], mistakes: &mut Mistakes) -> Option<Self> {
        let regime = match table.one_of("question", "question", &["hidden", "visible"], mistakes) {
            Some("visible") => Regime::Visible,
            _ => Regime::Hidden,
        };
        let max_new_tokens = table.whole("max_new_tokens", 1..=100_000_000, mistakes).map(|most| most as usize);
        let raw = table.flag("raw", mistakes).unwrap_or(false);
        let info = task(&mut table, tasks, mistakes)?;
        for (other, ours, reason) in [
            ("limit", "samples", "a built-in task has `samples`"),
            ("samples", "limit", "the first samples of a file are taken with `limit`"),
            ("context_tokens", "limit", "the contexts of a file are as long as they are"),
        ] {
            if info.takes(ours) && !info.takes(other) {
                table.refuse(other, reason, mistakes);
            }
        }
        let given = params(&mut table, &info.params, mistakes);
        table.finish(mistakes);
        let params = with_defaults(&info.params, given);
        Some(Self { name: info.name.clone(), params, question: regime, max_new_tokens, raw })
    }
}

/// The task that the table names.
fn task<'t>(table: &mut Table<'_>, tasks: &'t [TaskInfo], mistakes: &mut Mistakes) -> Option<&'t TaskInfo> {
    let find = |name: &str| tasks.iter().find(|task| task.name == name);
    match (table.get("name").is_some(), table.get(FILE).is_some()) {
        (true, has_file) => {
            // The parameters of an unknown task are unknown too: the name is the one mistake to tell.
            let (name, span) = table.text("name", mistakes)?;
            let Some(info) = find(name) else {
                let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
                unknown(span, &format!("task `{name}`"), name, &names, mistakes);
                return None;
            };
            if has_file && !info.takes(FILE) {
                let mistake = mistakes.add(table.key_span(FILE), "a task has either `name` or `file`");
                mistake.other(table.key_span("name"), "and here is its name");
                return None;
            }
            Some(info)
        }
        (false, true) => {
            if find(FILE).is_none() {
                mistakes.add(table.key_span(FILE), "this program reads no files of samples");
            }
            find(FILE)
        }
        (false, false) => {
            let mistake = mistakes.add(table.span(), "[task] has neither `name` nor `file`");
            mistake.help("name = \"needle\" is built in; file = \"x.jsonl\" is yours");
            None
        }
    }
}
