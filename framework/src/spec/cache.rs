//! Cache layouts as written: `[cache]` for every press, `cache` of one press, `[sweep] cache` to compare several.

use toml::de::DeValue;

use super::report::Mistakes;
use super::table::{Node, Table, kind, list};
use crate::cache::{Bits, KeySteps, Quantization};

/// How a session's KV pairs are stored; `None`: as the model computes them.
pub type Storage = Option<Quantization>;

/// The name of [`Storage`] `None` where a layout is due.
pub(super) const FULL: &str = "full";

/// What a `[[press]]`, or the baseline, is called when it is stored so.
pub fn labelled(label: &str, storage: Storage) -> String {
    storage.map_or_else(|| label.to_owned(), |quantization| format!("{label} + {quantization}"))
}

/// One layout: `"full"`, or a table.
pub(super) fn storage(node: &Node<'_>, mistakes: &mut Mistakes) -> Option<Storage> {
    match node.get_ref() {
        DeValue::Table(_) => quantization(Table::of("`cache`", node, mistakes)?, mistakes).map(Some),
        DeValue::String(text) if text == FULL => Some(None),
        other => {
            let mistake = mistakes.add(node.span(), format!("a cache layout is not {}", kind(other)));
            mistake.help(format!("it is \"{FULL}\", or a table such as {{ bits = 4 }}"));
            None
        }
    }
}

/// Several layouts, each once.
pub(super) fn storages(node: &Node<'_>, mistakes: &mut Mistakes) -> Option<Vec<Storage>> {
    let mut all = Vec::new();
    for item in list("cache", node, mistakes)? {
        let Some(storage) = storage(item, mistakes) else { continue };
        if all.contains(&storage) {
            mistakes.add(item.span(), "the same layout is there twice").help("remove one of them");
        }
        all.push(storage);
    }
    Some(all)
}

/// The table of `[cache]`.
pub(super) fn quantization(mut table: Table<'_>, mistakes: &mut Mistakes) -> Option<Quantization> {
    let before = mistakes.len();
    let help = "bits = 4: two, four or eight bits for a number";
    let bits = table.require("bits", help, mistakes).map(Node::span);
    let count = table.whole("bits", 1..=u32::MAX, mistakes);
    let known = count.and_then(|count| Bits::ALL.into_iter().find(|bits| bits.count() == count));
    if let (Some(span), Some(count), None) = (bits, count, known) {
        let mistake = mistakes.add(span, format!("{count} bits are not 2, 4 or 8"));
        mistake.help(format!("cache = \"{FULL}\" stores numbers as the model computes them"));
    }
    let mut quantization = Quantization::of(known.unwrap_or(Bits::Four));
    if let Some(group) = table.whole("group", 1..=1 << 16, mistakes) {
        quantization.format.group = i64::from(group);
        if i64::from(group) % Quantization::GROUP_UNIT != 0 {
            let unit = Quantization::GROUP_UNIT;
            let span = table.get("group").map_or_else(|| table.span(), Node::span);
            let mistake = mistakes.add(span, format!("a group of {group} is no multiple of {unit}"));
            mistake.help("tokens (of values: channels) that share a step and a zero; 64 unless told otherwise");
        }
    }
    if let Some(residual) = table.whole("residual", 0..=1 << 30, mistakes) {
        quantization.residual = i64::from(residual);
    }
    if table.one_of("keys", "steps of keys", &["per-channel", "per-token"], mistakes) == Some("per-token") {
        quantization.format.keys = KeySteps::PerToken;
    }
    quantization.format.hadamard = table.flag("hadamard", mistakes).unwrap_or(false);
    table.finish(mistakes);
    (mistakes.len() == before).then_some(quantization)
}
