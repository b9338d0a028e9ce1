//! Amounts of memory as they are written in TOML.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::spec::Choice;

/// Bytes that a run may take, as in `8GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBudget(pub u64);

/// Units by their names. The longer name of two that end alike comes first.
const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl FromStr for MemoryBudget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let split = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim_end(), *unit)));
        let number = split.and_then(|(number, unit)| Some((number.parse::<f64>().ok()?, unit)));
        match number.map(|(number, unit)| number * unit as f64) {
            Some(bytes) if (1.0..9e18).contains(&bytes) => Ok(Self(bytes as u64)),
            _ => Err(Error::input(format!(
                "`{text}` is no amount of memory: write a number and its unit, as in 8GiB or 500MB"
            ))),
        }
    }
}

impl Choice for MemoryBudget {
    const PATTERN: Option<&'static str> = Some("^[0-9]+(\\.[0-9]+)? *([kMGT]?B|[KMGT]iB)$");

    fn names() -> Vec<&'static str> {
        vec!["8GiB"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_a_number_and_a_unit() {
        let bytes = |text: &str| text.parse::<MemoryBudget>().map(|budget| budget.0).map_err(|error| error.to_string());
        assert_eq!(bytes("8GiB"), Ok(8 << 30));
        assert_eq!(bytes("1.5 kB"), Ok(1500));
        assert_eq!(bytes("1TB"), Ok(1_000_000_000_000));
        assert_eq!(bytes("77B"), Ok(77));
        for wrong in ["", "8", "GiB", "8 gigabytes", "-1GiB", "0B", "infB", "nanGB", "8gb"] {
            assert!(bytes(wrong).unwrap_err().contains("as in 8GiB"), "{wrong}");
        }
    }
}
