//! `pressroom press`: the presses as their own sources describe them.

use anyhow::{Result, anyhow};
use pressroom::press::{Built, Kind, PressInfo, Registry, nearest};

use super::print;
use crate::cli::PressCommand;

/// Runs `press list` and `press show`.
///
/// # Errors
/// There is no press of that name.
pub fn press(command: &PressCommand) -> Result<()> {
    let registry = pressroom_presses::registry()?;
    match command {
        PressCommand::List => {
            let width = registry.names().map(str::len).max().unwrap_or(0);
            let lines: String = registry
                .entries()
                .map(|entry| format!("{:width$}  {}\n", entry.info().name, entry.info().summary()))
                .collect();
            print(&lines)
        }
        PressCommand::Show { name } => {
            let entry = registry.find(name).ok_or_else(|| match nearest(name, registry.names()) {
                Some(near) => anyhow!("there is no press `{name}`; did you mean `{near}`?"),
                None => anyhow!("there is no press `{name}`; `pressroom press list` names them all"),
            })?;
            print(&show(entry.info(), &needs(&registry, name)))
        }
    }
}

/// What the press reads with default parameters; a wrapper reads what it wraps.
fn needs(registry: &Registry, name: &str) -> String {
    let built = registry.find(name).and_then(|entry| entry.build(&pressroom::press::Params::new(), None).ok());
    match built {
        Some(Built::Scorer(scorer)) => scorer.needs().to_string(),
        Some(Built::Press(press)) => press.needs().to_string(),
        None => "what the press it wraps reads".into(),
    }
}

fn show(info: &PressInfo, needs: &str) -> String {
    let kind = match info.kind {
        Kind::Scorer => "scorer: ranks KV pairs, usable alone, in chains and inside wrappers",
        Kind::Wrapper => "wrapper: takes press = { name = \"...\" }, a scorer",
    };
    let mut text = format!("{}: {}\n\n  {kind}\n", info.name, info.summary());
    for section in ["Idea", "Formula"] {
        if let Some(body) = info.section(section) {
            text += &format!("\n{section}\n{}\n", indent(&body));
        }
    }
    text += &format!("\nReads\n  {needs}\n\nParameters\n");
    if info.params.is_empty() {
        text += "  none besides compression_ratio\n";
    }
    for param in &info.params {
        let default = param.default.map_or_else(|| "not set".to_owned(), |value| value.to_string());
        text += &format!("  {} = {default}\n      {} ({}", param.name, param.doc, param.kind);
        let bounded = param.kind != pressroom::press::ParamType::Flag && param.range != pressroom::press::Range::ANY;
        text += &if bounded { format!(", {})\n", param.range) } else { ")\n".to_owned() };
    }
    if let Some(paper) = info.section("Paper") {
        text += &format!("\nPaper\n{}\n", indent(&paper));
    }
    text
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
