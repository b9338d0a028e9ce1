//! Which presses can follow which in a chain, as the presses themselves declare.

use std::fmt::Write;

use anyhow::{Context, Result};
use pressroom::press::{Built, Entry, Kind, Method, ParamType, Params, Registry, Value};

/// The table in Markdown: what the first press leaves, down; what the next one does, across.
pub fn chains(registry: &Registry) -> Result<String> {
    let mut kinds: Vec<(Method, Vec<&str>)> = Vec::new();
    for entry in registry.entries() {
        let (method, name) = (with_defaults(registry, entry)?.into_method(), entry.info().name.as_str());
        match kinds.iter_mut().find(|(kind, _)| kind.leaves() == method.leaves()) {
            Some((_, names)) => names.push(name),
            None => kinds.push((method, vec![name])),
        }
    }
    let mut text = String::from("| leaves | presses |\n|---|---|\n");
    for (kind, names) in &kinds {
        writeln!(text, "| {} | {} |", kind.leaves(), names.join(", "))?;
    }
    let mut reasons: Vec<&str> = Vec::new();
    text += "\n| first \\ next |";
    text.extend(kinds.iter().map(|(kind, _)| format!(" {} |", kind.leaves())));
    text += "\n|---|";
    text.extend(kinds.iter().map(|_| "---|"));
    for (first, _) in &kinds {
        write!(text, "\n| {} |", first.leaves())?;
        for (next, _) in &kinds {
            let Some(reason) = first.refuses(next) else {
                text += " yes |";
                continue;
            };
            let number = reasons.iter().position(|known| *known == reason).unwrap_or_else(|| {
                reasons.push(reason);
                reasons.len() - 1
            });
            write!(text, " no ({}) |", number + 1)?;
        }
    }
    text += "\n";
    for (index, reason) in reasons.iter().enumerate() {
        write!(text, "\n{}. The first {reason}.", index + 1)?;
    }
    Ok(text + "\n")
}

/// A press with default parameters, a wrapper around the first press that it takes. A number that it cannot do without
/// is as small as allowed.
pub fn with_defaults(registry: &Registry, entry: &Entry) -> Result<Built> {
    let info = entry.info();
    let mut inner = Vec::new();
    for wraps in &info.wraps {
        let plain = |other: &&Entry| other.info().wraps.iter().all(|inner| inner.kind != Kind::Decoding);
        let mut fitting = registry.entries().filter(|other| wraps.accepts_kind(other.info().kind)).filter(plain);
        let built = fitting.next().map(|other| with_defaults(registry, other));
        inner.push(built.with_context(|| format!("nothing fits into `{}`", info.name))??);
    }
    let missing = info.params.iter().filter(|param| param.default.is_none() && param.kind == ParamType::Number);
    let smallest = missing.map(|param| (param.name.clone(), Value::Number(param.range.min))).collect();
    Ok(entry.build(&Params::new(), inner.clone()).or_else(|_| entry.build(&smallest, inner))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table speaks for all presses: those that leave the same are refused by, and refuse, the same.
    #[test]
    fn presses_that_leave_the_same_chain_alike() {
        let registry = pressroom_presses::registry().unwrap();
        let methods: Vec<Method> =
            registry.entries().map(|entry| with_defaults(&registry, entry).unwrap().into_method()).collect();
        for (a, b) in methods.iter().flat_map(|a| methods.iter().map(move |b| (a, b))) {
            for other in methods.iter().filter(|_| a.leaves() == b.leaves()) {
                assert_eq!(a.refuses(other), b.refuses(other), "{} and {}", a.identity(), b.identity());
                assert_eq!(other.refuses(a), other.refuses(b), "{} and {}", a.identity(), b.identity());
            }
        }
    }
}
