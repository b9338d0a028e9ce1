//! What must be equal for numbers to stand in one table.

use std::collections::BTreeMap;

use pressroom::pipeline::Regime;

use super::Run;
use crate::results::Record;

/// The conditions of a comparison. Runs and samples that differ in any of them never share a column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conditions {
    /// Name of the model.
    pub model: String,
    /// Its files' SHA-256.
    pub model_sha256: String,
    /// Number format.
    pub dtype: String,
    /// Whether presses saw the question.
    pub visible: bool,
    /// Whether several questions follow one compressed context.
    pub several_turns: bool,
    /// SHA-256 of the chat template; absent where texts are used as they are.
    pub template_sha256: Option<String>,
    /// How caches are stored, where the experiment says.
    pub cache: Option<String>,
}

impl Conditions {
    /// The conditions of each sample of a run.
    pub fn of_samples(run: &Run) -> BTreeMap<usize, Self> {
        let mut turns: BTreeMap<usize, (&Record, usize)> = BTreeMap::new();
        for record in &run.records {
            let known = turns.entry(record.index).or_insert((record, 0));
            known.1 = known.1.max(record.turn);
        }
        let text = |keys: &[&str]| run.text(keys).map(str::to_owned);
        let of = |(index, (record, last)): (usize, (&Record, usize))| {
            let conditions = Self {
                model: text(&["model", "path"]).unwrap_or_default(),
                model_sha256: text(&["model_sha256"]).unwrap_or_default(),
                dtype: text(&["dtype"]).unwrap_or_default(),
                visible: record.question == Regime::Visible,
                several_turns: last > 0,
                template_sha256: text(&["template_sha256"]),
                cache: run.plan.get("cache").filter(|cache| !cache.is_null()).map(ToString::to_string),
            };
            (index, conditions)
        };
        turns.into_iter().map(of).collect()
    }

    /// Regime and turns in words.
    pub fn regime(&self) -> &'static str {
        match (self.visible, self.several_turns) {
            (false, false) => "question hidden",
            (true, false) => "question visible",
            (false, true) => "several questions, hidden",
            (true, true) => "several questions, visible",
        }
    }

    /// What stands below every table, as pairs of a name and what it says.
    pub fn notes(&self) -> Vec<(&'static str, String)> {
        let regime = match (self.visible, self.several_turns) {
            (false, _) => "hidden: asked after the context was compressed, presses have not seen it",
            (true, _) => "visible: part of the compressed text, presses have seen it",
        };
        let template = self
            .template_sha256
            .as_ref()
            .map_or("none: texts as they are".into(), |hash| format!("SHA-256 {}", short(hash)));
        let turns = if self.several_turns { "several questions about one compressed context" } else { "one a context" };
        let mut notes = vec![
            ("model", format!("{}, {}, files' SHA-256 {}", self.model, self.dtype, short(&self.model_sha256))),
            ("question", regime.to_owned()),
            ("questions", turns.to_owned()),
            ("chat template", template),
        ];
        notes.extend(self.cache.clone().map(|cache| ("cache", cache)));
        notes
    }
}

fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}
