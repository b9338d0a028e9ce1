//! What stands beside the numbers: positions, bytes, and what each press does.

use std::collections::{BTreeMap, BTreeSet};

use pressroom::Result;
use serde::Serialize;
use serde_json::Value;

use super::{Comparison, Row, Run};

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
        notes.extend(self.answer_prefix().map(|prefix| ("answer prefix", prefix)));
        notes.push(("samples", self.asked()));
        notes.push(("contexts", self.contexts()));
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
        notes.push(("ratio achieved", self.achieved()));
        notes.push(("bytes", "measured from the allocations of the compressed cache, before the question".into()));
        notes.push((
            "query group",
            "how a press pools over the query heads of a KV head stands in its formula: `pressroom press show NAME`"
                .into(),
        ));
        notes.push(("prefill", self.prefill()));
        let (cut_off, answers): (usize, usize) =
            self.rows.iter().fold((0, 0), |sum, row| (sum.0 + row.cut_off, sum.1 + row.answers - row.errors));
        notes.push(("length", format!("{cut_off} of {answers} answers were ended by their limit")));
        notes
    }

    /// What the answers were made to begin with.
    fn answer_prefix(&self) -> Option<String> {
        let mut prefixes = self.answer_prefixes.iter();
        Some(match (prefixes.next()?.as_str(), prefixes.next()) {
            ("", None) => "none".to_owned(),
            (one, None) => format!("{one:?}"),
            _ => format!("{} of them, by question, in questions.json", self.answer_prefixes.len()),
        })
    }

    fn achieved(&self) -> String {
        let off = self.rows.iter().filter(|row| row.off_budget());
        let told = |row: &Row| {
            let asked = row.ratio().unwrap_or_default();
            format!("{} {:.3} for {asked:.2}", row.cell.press, row.means.achieved_ratio)
        };
        let off: Vec<String> = off.map(told).collect();
        match off.is_empty() {
            true => "what was asked for, within 0.02".to_owned(),
            false => format!("not what was asked for of {}", off.join(", ")),
        }
    }

    fn asked(&self) -> String {
        let seeds: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
        let many = if seeds.len() == 1 { "seed" } else { "seeds" };
        format!("{}; {many} {}", self.samples, seeds.join(", "))
    }

    fn contexts(&self) -> String {
        let lengths = || self.rows.iter().filter_map(|row| row.context_tokens);
        let (Some(least), Some(most)) = (lengths().map(|all| all.0).min(), lengths().map(|all| all.1).max()) else {
            return "none was answered".to_owned();
        };
        let cut = self.rows.iter().map(|row| row.truncated).max().unwrap_or(0);
        let cut = if cut == 0 { "none was cut".to_owned() } else { format!("{cut} were cut to the model's positions") };
        format!("{least} to {most} tokens of the model's own tokenizer; {cut}")
    }

    /// What prefills took, which is no press's own.
    fn prefill(&self) -> String {
        let seconds = self.rows.iter().filter(|row| row.estimate.is_some()).map(|row| row.means.prefill_s);
        let most = seconds.fold(0.0, f64::max);
        format!(
            "one pass over a context serves all presses and ratios: {most:.2} s a context, what the presses compute in it \
             included; what each computes alone, `pressroom press cost` measures"
        )
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
