//! `pressroom press`: the presses as their own sources describe them.

mod chains;
mod cost;
mod docs;

use anyhow::{Result, anyhow};
use pressroom::press::{Budgeting, Entry, Kind, ParamInfo, ParamType, Params, PressInfo, Range, Registry, nearest};

use super::print;
use crate::cli::PressCommand;

/// Runs `press list`, `press show`, `press chains`, `press docs` and `press cost`.
///
/// # Errors
/// There is no press of that name.
pub fn press(command: &PressCommand) -> Result<()> {
    let registry = pressroom_presses::registry()?;
    match command {
        PressCommand::List => print(&list(&registry)),
        PressCommand::Show { name } => {
            registry.find(name).ok_or_else(|| match nearest(name, registry.names()) {
                Some(near) => anyhow!("there is no press `{name}`; did you mean `{near}`?"),
                None => anyhow!("there is no press `{name}`; `pressroom press list` names them all"),
            })?;
            print(&show(&registry, name))
        }
        PressCommand::Chains => print(&chains::chains(&registry)?),
        PressCommand::Docs => print(&docs::docs(&registry)?),
        PressCommand::Cost(args) => cost::cost(&registry, args),
    }
}

/// A line for each press.
pub(super) fn list(registry: &Registry) -> String {
    let width = registry.names().map(str::len).max().unwrap_or(0);
    let line = |info: &PressInfo| format!("{:width$}  {}\n", info.name, info.summary());
    registry.entries().map(|entry| line(entry.info())).collect()
}

/// What the press reads with default parameters; a wrapper reads what it wraps.
fn needs(registry: &Registry, name: &str) -> String {
    let built = registry.find(name).and_then(|entry| entry.build(&Params::new(), Vec::new()).ok());
    built.map_or_else(|| "what the press it wraps reads".into(), |built| built.into_method().needs().to_string())
}

/// Everything about the press called `name`; nothing where there is none.
pub(super) fn show(registry: &Registry, name: &str) -> String {
    let Some(info) = registry.find(name).map(Entry::info) else { return String::new() };
    let needs = needs(registry, name);
    let mut text = format!("{}: {}\n\n  {}\n", info.name, info.summary(), kind(info));
    for wraps in &info.wraps {
        text += &format!("  takes {} = {{ name = \"...\" }}, a {}\n", wraps.key, wraps.kind);
    }
    for section in ["Idea", "Formula"] {
        if let Some(body) = info.section(section) {
            text += &format!("\n{section}\n{}\n", indent(&body));
        }
    }
    text += &format!("\nReads\n  {needs}\n\nParameters\n");
    if info.budgeting == Budgeting::Given {
        text += "  compression_ratio\n      The fraction of the KV pairs that is removed; or budget, the tokens kept per KV head\n";
    }
    text.extend(info.params.iter().map(parameter));
    if let Some(paper) = info.section("Paper") {
        text += &format!("\nPaper\n{}\n", indent(&paper));
    }
    text
}

fn kind(info: &PressInfo) -> &'static str {
    match info.kind {
        Kind::Scorer => "scorer: ranks KV pairs; usable alone, in chains and inside wrappers",
        Kind::Press => "press: decides layer by layer; usable alone and in chains",
        Kind::Context => "press of whole contexts: decides over all layers at once, after the prefill",
        Kind::Decoding => "press of the decoding phase: compresses while an answer grows; may end a chain",
    }
}

fn parameter(param: &ParamInfo) -> String {
    let doc = param.doc.replace('\n', "\n      ");
    format!("  {} = {}\n      {doc} ({})\n", param.name, default(param), allowed(param))
}

fn default(param: &ParamInfo) -> String {
    param.default.as_ref().map_or_else(|| "not set".to_owned(), ToString::to_string)
}

fn allowed(param: &ParamInfo) -> String {
    let numeric = matches!(param.kind, ParamType::Integer | ParamType::Number);
    match (numeric && param.range != Range::ANY, param.choices.is_empty()) {
        (true, _) => format!("{}, {}", param.kind, param.range),
        (false, true) => param.kind.to_string(),
        (false, false) => param.choices.join(" | "),
    }
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
