//! `docs/presses.md`, from the presses' own sources.

use std::fmt::Write;

use anyhow::Result;
use pressroom::press::{Budgeting, Entry, Kind, ParamInfo, PressInfo, Registry};
use pressroom::spec::SPELLINGS;

use super::chains::{chains, with_defaults};
use super::{allowed, default, kind};

/// Whether a press belongs to a group.
type Belongs = fn(&PressInfo) -> bool;

/// Headings of the list with what stands under them.
const GROUPS: [(&str, Belongs); 5] = [
    ("Scorers", |info| info.kind == Kind::Scorer && info.wraps.is_empty()),
    ("Presses", |info| info.kind == Kind::Press && info.wraps.is_empty()),
    ("Wrappers", |info| matches!(info.kind, Kind::Scorer | Kind::Press) && !info.wraps.is_empty()),
    ("Presses of whole contexts", |info| info.kind == Kind::Context),
    ("Presses of the decoding phase", |info| info.kind == Kind::Decoding),
];

/// What presses take beside the reference's: what `scripts/press_costs.py` has measured.
const COSTS: &str = include_str!("costs.md");

/// All presses: the list, other spellings, chains, costs, and every press by itself.
pub fn docs(registry: &Registry) -> Result<String> {
    let mut text = String::from(
        "# Presses\n\nPrinted by `pressroom press docs` from the presses' own sources; `pressroom press show NAME` shows \
         one. Names, parameters and defaults are kvpress's.\n\nEvery press takes `compression_ratio`, the fraction of the \
         KV pairs that is removed (one number, a list with one per layer, or `{ from = 0.2, to = 0.8 }`), or `budget`, the \
         tokens that each KV head keeps; those whose parameters decide say so.\n",
    );
    for (heading, belongs) in GROUPS {
        let group: Vec<&PressInfo> = registry.entries().map(Entry::info).filter(|info| belongs(info)).collect();
        if !group.is_empty() {
            write!(text, "\n## {heading}\n\n| press | what it does |\n|---|---|\n")?;
        }
        for info in group {
            writeln!(text, "| [`{0}`](#{0}) | {1} |", info.name, info.summary())?;
        }
    }
    text += "\n## Other spellings\n\nConfigurations of kvpress carry over; these two are read as what they stand for.\n\n\
             | kvpress | here |\n|---|---|\n";
    for (theirs, ours) in SPELLINGS {
        writeln!(text, "| `{theirs}` | `{ours}` |")?;
    }
    text += "\n## Chains\n\nPresses of a chain run one after another; each sees the keys, values, hidden states and \
             attention weights of what the one before has left, and its ratio counts from there. What a press leaves \
             decides what can follow it, with default parameters:\n\n";
    text += &chains(registry)?;
    write!(text, "\n## Cost\n\n{COSTS}")?;
    for entry in registry.entries() {
        write!(text, "\n{}", press(entry.info(), &with_defaults(registry, entry)?.into_method().needs().to_string())?)?;
    }
    Ok(text)
}

fn press(info: &PressInfo, needs: &str) -> Result<String> {
    let mut text = format!("## {}\n\n{}\n\n*{}*\n", info.name, info.summary(), kind(info));
    for section in ["Idea", "Formula", "Paper"] {
        if let Some(body) = info.section(section) {
            write!(text, "\n**{section}.** {body}\n")?;
        }
    }
    let needs = if info.wraps.is_empty() { needs } else { "what the press it wraps reads" };
    write!(text, "\n**Reads** {needs}.\n")?;
    for wraps in &info.wraps {
        write!(text, "\n**Wraps** `{} = {{ name = \"...\" }}`, a {}.\n", wraps.key, wraps.kind)?;
    }
    if info.budgeting == Budgeting::Own {
        text += "\nIts parameters decide how much it keeps: it takes no `compression_ratio`.\n";
    }
    if !info.params.is_empty() {
        text += "\n| parameter | default | allowed | |\n|---|---|---|---|\n";
        text.extend(info.params.iter().map(parameter));
    }
    Ok(text)
}

fn parameter(param: &ParamInfo) -> String {
    let cell = |text: &str| text.replace('\n', " ").replace('|', "\\|");
    format!("| `{}` | {} | {} | {} |\n", param.name, default(param), cell(&allowed(param)), cell(&param.doc))
}
