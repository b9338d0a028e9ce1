//! `pressroom bench --show`: the tables of a report that another machine made.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use pressroom::Error;
use serde::Deserialize;
use serde_json::Value;

use super::bench::{Report, text};
use crate::table::{bytes, table};

/// What `tests/gpu/run.py` prints; of its checks, whether they passed.
#[derive(Deserialize)]
struct GpuReport {
    date: String,
    device: String,
    torch: String,
    nvidia_smi: Option<String>,
    checks: BTreeMap<String, Check>,
    kernels: Vec<KernelRow>,
    memory: Option<Memory>,
    bench: Option<Report>,
}

/// What a context took that was read once for several ratios, in bytes.
#[derive(Deserialize)]
struct Memory {
    context_tokens: u64,
    predicted: u64,
    measured: u64,
}

#[derive(Deserialize)]
struct Check {
    ok: bool,
}

/// One kernel's speed.
#[derive(Deserialize)]
struct KernelRow {
    kernel: String,
    layout: String,
    dtype: String,
    context_tokens: u64,
    batch: u64,
    seconds: f64,
    bytes_per_s: f64,
    bandwidth_share: f64,
}

/// The tables of the report in `file`.
///
/// # Errors
/// The file cannot be read, or holds no such report.
pub(super) fn shown(file: &Path) -> Result<String> {
    let written = std::fs::read_to_string(file).map_err(Error::io(file))?;
    let other = || format!("{} is no report of `pressroom bench --json` or tests/gpu/run.py", file.display());
    let report: Value = serde_json::from_str(&written).with_context(other)?;
    Ok(match report.get("checks") {
        Some(_) => of_gpu(&serde_json::from_value(report).with_context(other)?),
        None => text(&serde_json::from_value(report).with_context(other)?),
    })
}

fn of_gpu(report: &GpuReport) -> String {
    let failed: Vec<&str> =
        report.checks.iter().filter(|(_, check)| !check.ok).map(|(name, _)| name.as_str()).collect();
    let outcome = match failed.as_slice() {
        [] => format!("all {} checks passed", report.checks.len()),
        failed => format!("failed: {}", failed.join(", ")),
    };
    let card = report.nvidia_smi.as_deref().unwrap_or(&report.device);
    let rows = report.kernels.iter().map(|row| {
        vec![
            row.kernel.clone(),
            row.layout.clone(),
            row.dtype.clone(),
            row.context_tokens.to_string(),
            row.batch.to_string(),
            format!("{:.0} µs", 1e6 * row.seconds),
            format!("{:.1} GB/s", row.bytes_per_s / 1e9),
            format!("{:.0} %", 100.0 * row.bandwidth_share),
        ]
    });
    let header = ["kernel", "layout", "dtype", "context", "batch", "time", "read", "of bandwidth"];
    let kernels = table(&header, rows.collect());
    let memory = report.memory.as_ref().map(|Memory { context_tokens, predicted, measured }| {
        let [predicted, measured] = [predicted, measured].map(|count| bytes(u128::from(*count)));
        format!("A context of {context_tokens} tokens for several ratios took {measured} at most; {predicted} were predicted.\n\n")
    });
    let (memory, bench) = (memory.unwrap_or_default(), report.bench.as_ref().map(text).unwrap_or_default());
    format!("{}, {card}, torch {}: {outcome}\n\n{kernels}\n{memory}{bench}", report.date, report.torch)
}
