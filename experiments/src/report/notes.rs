//! What stands beside the numbers: positions, bytes, and what each press does.

use std::collections::{BTreeMap, BTreeSet};

use pressroom::Result;
use serde::Serialize;
use serde_json::Value;

use super::{Comparison, Run};

/// A press as the plan and its own documentation describe it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Described {
    /// Its label.
    pub label: String,
    /// Presses and parameters.
    pub identity: String,
    /// Formulas of the presses by name, which say how they pool over the query group.
    pub formulas: Vec<(String, String)>,
}

impl Comparison {
    /// The conditions, and how the columns came about.
    pub fn notes(&self) -> Vec<(&'static str, String)> {
        let mut notes = self.conditions.notes();
        let moved: BTreeSet<&str> = self
            .rows
            .iter()
            .filter(|row| row.positions.as_deref() == Some("kept"))
            .map(|row| row.cell.press.as_str())
            .collect();
        let moved: Vec<&str> = moved.into_iter().collect();
        let exception = match moved.is_empty() {
            true => String::new(),
            false => format!("; of {} after the pairs kept, because their keys are moved", moved.join(", ")),
        };
        notes.push(("positions", format!("tokens after the context count from its uncompressed length{exception}")));
        notes.push(("bytes", "measured from the allocations of the compressed cache, before the question".into()));
        notes.push(("query group", "how a press pools over the query heads of a KV head stands in its formula".into()));
        let (cut_off, answers): (usize, usize) =
            self.rows.iter().fold((0, 0), |sum, row| (sum.0 + row.cut_off, sum.1 + row.answers - row.errors));
        notes.push(("length", format!("{cut_off} of {answers} answers were ended by their limit")));
        notes
    }
}

/// The presses of some runs.
///
/// # Errors
/// The registry of presses cannot be made.
pub fn described(runs: &[Run]) -> Result<Vec<Described>> {
    let registry = pressroom_presses::registry()?;
    let formula = |name: &str| Some((name.to_owned(), registry.find(name)?.info().section("Formula")?));
    let mut all = BTreeMap::new();
    for session in runs.iter().filter_map(|run| run.plan.get("sessions")?.as_array()).flatten() {
        let text = |key: &str| session.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut names = Vec::new();
        press_names(session.get("stages").unwrap_or(&Value::Null), &mut names);
        let formulas = names.iter().filter_map(|name| formula(name)).collect::<Vec<_>>();
        if !names.is_empty() {
            all.insert(text("label"), Described { label: text("label"), identity: text("identity"), formulas });
        }
    }
    Ok(all.into_values().collect())
}

/// The names of presses in a plan's stages, wrapped ones too.
fn press_names(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| press_names(item, names)),
        Value::Object(fields) => {
            let name = fields.get("name").and_then(Value::as_str).map(str::to_owned);
            names.extend(name.filter(|name| !names.contains(name)));
            fields.values().for_each(|field| press_names(field, names));
        }
        _ => {}
    }
}
