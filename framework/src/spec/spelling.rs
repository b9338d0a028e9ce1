//! Spellings of kvpress for what has one of its own here: they are read, and nothing else knows of them.

use toml::de::DeValue;

use super::budget::BudgetSpec;
use super::press::{PressReader, StageSpec, inner_table};
use super::report::Mistakes;
use super::table::{Node, Table, list};

/// Every spelling with what it stands for.
pub const SPELLINGS: [(&str, &str); 2] = [
    ("name = \"composed\", presses = [..]", "chain = [..]"),
    (
        "name = \"per_layer_compression\", press = { name = \"..\", .. }, compression_ratios = [..]",
        "name = \"..\", .., compression_ratio = [..]",
    ),
];

/// Name of a chain.
pub(super) const CHAIN: &str = "composed";
/// Name of a press with a ratio for every layer.
pub(super) const PER_LAYER: &str = "per_layer_compression";

/// Whether a press's `name` is this spelling.
pub(super) fn is(name: &Node<'_>, spelling: &str) -> bool {
    matches!(name.get_ref(), DeValue::String(text) if text == spelling)
}

/// What is wrong with a spelling in a place where a press of the registry is due.
pub(super) fn misplaced(name: &str) -> Option<String> {
    match name {
        CHAIN => Some(format!("`{CHAIN}` is a chain: a [[press]] of its own, never a part of one")),
        PER_LAYER => Some(format!("`{PER_LAYER}` gives a press its ratios: no press can wrap it")),
        _ => None,
    }
}

impl PressReader<'_> {
    /// The stages of a chain under its other name.
    pub(super) fn presses(&self, mut table: Table<'_>, mistakes: &mut Mistakes) -> Option<Vec<StageSpec>> {
        let help = "its presses: presses = [{ name = \"...\", compression_ratio = 0.5 }, ...]";
        let presses = table.require("presses", help, mistakes)?;
        self.whole_chain(table, "presses", presses, mistakes)
    }

    /// A press whose ratios stand beside it.
    pub(super) fn per_layer(&self, mut table: Table<'_>, mistakes: &mut Mistakes) -> Option<StageSpec> {
        let press = table.require("press", "what is compressed: press = { name = \"...\" }", mistakes);
        let ratios =
            table.require("compression_ratios", "one for each layer: compression_ratios = [0.25, 0.5, ..]", mistakes);
        for key in ["compression_ratio", "budget"] {
            table.refuse(key, "`compression_ratios` has one for each layer", mistakes);
        }
        table.finish(mistakes);
        let (press, ratios) = (press?, ratios?);
        let inner = inner_table(PER_LAYER, "press", press, mistakes)?;
        let budget = list("compression_ratios", ratios, mistakes).and_then(|_| BudgetSpec::read(ratios, mistakes));
        self.with_budget(inner, budget.map(Some).ok_or(()), ratios.span(), mistakes)
    }
}
