//! `pressroom plugin`: press plugins, for those who use them and those who write them.

mod new;

use std::path::Path;

use anyhow::{Result, anyhow};
use pressroom::press::{Registry, nearest};
use pressroom_plugin_host::check::{self, Finding, Limits, Outcome};
use pressroom_plugin_host::{open, register};

use crate::cli::PluginCommand;
use crate::commands::press::{list, show};
use crate::commands::print;

/// Runs the `plugin` commands.
///
/// # Errors
/// What the command could not do.
pub fn plugin(command: &PluginCommand) -> Result<()> {
    match command {
        PluginCommand::New { folder, sdk } => print(&new::new(folder, sdk.as_deref())?),
        PluginCommand::List { lib } => print(&list(&presses(lib)?)),
        PluginCommand::Show { lib, name } => {
            let registry = presses(lib)?;
            let names: Vec<&str> = registry.names().collect();
            let wanted = match name.as_deref() {
                None => names,
                Some(name) if names.contains(&name) => vec![name],
                Some(name) => {
                    let hint = nearest(name, names.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
                    return Err(anyhow!("{} has no press `{name}`{}", lib.display(), hint.unwrap_or_default()));
                }
            };
            print(&wanted.iter().map(|name| show(&registry, name)).collect::<Vec<_>>().join("\n"))
        }
        PluginCommand::Check { lib, json, seed, time_limit_s } => {
            check(lib, *json, *seed, &Limits { seconds: *time_limit_s, memory_mib: CHECK_MEMORY_MIB })
        }
    }
}

/// MiB of memory that a check may take.
const CHECK_MEMORY_MIB: u64 = 4096;

fn check(lib: &Path, json: bool, seed: u64, limits: &Limits) -> Result<()> {
    let findings = check::check(lib, seed, limits)?;
    print(&if json { serde_json::to_string(&findings)? + "\n" } else { report(&findings) })?;
    match findings.iter().filter(|finding| finding.outcome.is_fault()).count() {
        0 => Ok(()),
        faults => Err(anyhow!("{} does not pass {faults} of {} checks", lib.display(), findings.len())),
    }
}

/// The findings, a line each, under the library and each of its presses.
fn report(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut press = None;
    for finding in findings {
        if press != Some(&finding.press) {
            text += &format!("{}\n", finding.press.as_deref().unwrap_or("library"));
            press = Some(&finding.press);
        }
        let (outcome, detail) = match &finding.outcome {
            Outcome::Ok => ("ok", None),
            Outcome::Warning(detail) => ("warning", Some(detail)),
            Outcome::Skipped(detail) => ("skipped", Some(detail)),
            Outcome::Failed(detail) => ("failed", Some(detail)),
            Outcome::Crashed(detail) => ("crashed", Some(detail)),
        };
        text += &format!("  {outcome:8} {:18} {}\n", finding.check, finding.says);
        text.extend(detail.map(|detail| format!("{:30}{detail}\n", "")));
    }
    text
}

/// The presses of a library alone.
fn presses(lib: &Path) -> Result<Registry> {
    let mut registry = Registry::default();
    register(&mut registry, open(lib, None, None)?)?;
    Ok(registry)
}
