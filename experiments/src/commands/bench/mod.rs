//! `pressroom bench`: prefill and decoding speed beside what the memory allows, and the memory that they take.

mod measure;
mod memory;

use anyhow::Result;
use pressroom_kernels::dispatch::Choice;
use serde::{Deserialize, Serialize};
use tch::Device;

pub(crate) use measure::made_up_ids;

use super::print;
use crate::cli::{BenchArgs, BenchLayout};
use crate::engine::{Engine, open_model};
use crate::results::Machine;
use crate::table::{bytes, table};
use measure::{Times, decode, prefill};
use memory::Memory;

/// What one context length, layout and batch size gave.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    context_tokens: usize,
    layout: BenchLayout,
    batch: usize,
    prefill_s: Times,
    /// Seconds of one decoding step of the whole batch.
    step_s: Times,
    decode_tokens_per_s: f64,
    /// Bytes of one sequence's compressed cache.
    cache_bytes: usize,
    /// Weights and caches read for one decoding step.
    step_bytes: u64,
    /// `step_bytes` a second over the bandwidth that was measured in turns with the steps.
    bandwidth_share: f64,
    /// What follows the context and one token more.
    #[serde(default)]
    first_token: i64,
}

/// Resident memory of one context length, in the first layout.
#[derive(Debug, Serialize, Deserialize)]
struct Held {
    context_tokens: usize,
    layout: BenchLayout,
    #[serde(flatten)]
    memory: Memory,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    model: String,
    dtype: String,
    threads: i32,
    kernels: String,
    /// The median of those that took turns with decoding; a row's share is of its own.
    read_bandwidth_bytes_per_s: f64,
    /// The most that was resident while the model was loaded, where the system tells.
    load_peak_bytes: Option<u64>,
    #[serde(default)]
    memory: Vec<Held>,
    rows: Vec<Row>,
}

/// Measures and prints.
///
/// # Errors
/// The model cannot be loaded, or a context does not fit it.
pub fn bench(args: &BenchArgs) -> Result<()> {
    if let Some(file) = &args.show {
        return print(&super::bench_show::shown(file)?);
    }
    args.hardware.set_threads();
    let program = memory::resident();
    let engine = Engine::load(&open_model(&args.model)?, &args.hardware.device, args.dtype)?;
    let load_peak_bytes = memory::peak();
    let device = engine.model.device();
    // What a GPU holds is not the process's.
    let program = program.filter(|_| device == Device::Cpu);
    let kernels = match Choice::of_process()? {
        Choice::Kernels(level) if device == Device::Cpu => level.name(),
        Choice::Kernels(_) => "CUDA",
        _ => "reference",
    };
    let weights = u64::try_from(engine.model.config().parameters())? * engine.model.kind().elt_size_in_bytes() as u64;
    let (mut rows, mut held, mut bandwidths) = (Vec::new(), Vec::new(), Vec::new());
    for &context_tokens in &args.context {
        if let (Some(&layout), Some(program)) = (args.layout.first(), program) {
            held.extend(hold(&engine, (context_tokens, layout), program, weights)?);
        }
        let prefilled = prefill(&engine, context_tokens, args)?;
        for &batch in &args.batch {
            for (prefilled, decoded) in prefilled.iter().zip(decode(&engine, &prefilled, batch, args)?) {
                let cache_bytes = prefilled.context.cache.bytes();
                let step_bytes = weights + (batch * cache_bytes) as u64;
                bandwidths.push(decoded.bandwidth);
                rows.push(Row {
                    context_tokens,
                    layout: prefilled.layout,
                    batch,
                    prefill_s: prefilled.prefill_s,
                    step_s: decoded.step_s,
                    decode_tokens_per_s: batch as f64 / decoded.step_s.median,
                    cache_bytes,
                    step_bytes,
                    bandwidth_share: step_bytes as f64 / decoded.step_s.median / decoded.bandwidth,
                    first_token: decoded.first_token,
                });
            }
        }
    }
    let report = Report {
        model: engine.name.clone(),
        dtype: format!("{:?}", engine.model.kind()),
        threads: tch::get_num_threads(),
        kernels: kernels.to_owned(),
        read_bandwidth_bytes_per_s: Times::of(&bandwidths).median,
        load_peak_bytes,
        memory: held,
        rows,
    };
    if args.json {
        return print(&(serde_json::to_string(&report)? + "\n"));
    }
    let text = text(&report);
    if args.markdown {
        let machine = Machine::this();
        return print(&format!("# Speed\n\nPrinted by `pressroom bench --markdown`. {machine}\n\n{text}"));
    }
    print(&text)
}

/// What a prefill and a token after it hold at most; also a rehearsal for what is timed next.
fn hold(
    engine: &Engine,
    (context_tokens, layout): (usize, BenchLayout),
    program: u64,
    weights: u64,
) -> Result<Option<Held>> {
    memory::forget_peak();
    let ids = made_up_ids(context_tokens, engine.model.config().vocab_size);
    let context = measure::compress(engine, &ids, layout)?;
    measure::step(engine, &context)?;
    let cache = context.cache.bytes() as u64;
    Ok(memory::peak().map(|peak| Held { context_tokens, layout, memory: Memory::of(peak, program, weights, cache) }))
}

pub(super) fn text(report: &Report) -> String {
    let rows = report
        .rows
        .iter()
        .map(|row| {
            let rate = |seconds: f64| row.batch as f64 / seconds;
            vec![
                row.context_tokens.to_string(),
                row.layout.to_string(),
                row.batch.to_string(),
                bytes(row.cache_bytes as u128),
                format!("{:.2} ({:.2}-{:.2})", row.prefill_s.median, row.prefill_s.min, row.prefill_s.max),
                format!("{:.0}", row.context_tokens as f64 / row.prefill_s.median),
                format!("{:.1} ({:.1}-{:.1})", row.decode_tokens_per_s, rate(row.step_s.max), rate(row.step_s.min)),
                format!("{:.1} GB/s", row.step_bytes as f64 / row.step_s.median / 1e9),
                format!("{:.0} %", 100.0 * row.bandwidth_share),
            ]
        })
        .collect();
    let header =
        ["context", "layout", "batch", "cache", "prefill s", "tokens/s", "decode tokens/s", "read", "of bandwidth"];
    format!(
        "{} in {}, {} threads, {} kernels; in turns with decoding, memory is read at {:.1} GB/s\n\n{}{}{}",
        report.model,
        report.dtype,
        report.threads,
        report.kernels,
        report.read_bandwidth_bytes_per_s / 1e9,
        table(&header, rows),
        raggedness(&report.rows),
        held(report)
    )
}

/// How ragged caches compare with those that hold as much, the same number in every head.
fn raggedness(rows: &[Row]) -> String {
    let mut text = String::new();
    for ragged in rows.iter().filter(|row| row.layout == BenchLayout::Ragged) {
        let even = |row: &&Row| {
            row.layout == BenchLayout::Half && (row.context_tokens, row.batch) == (ragged.context_tokens, ragged.batch)
        };
        let Some(half) = rows.iter().find(even) else { continue };
        text += &format!(
            "\nAt {} tokens and batch {}, ragged takes {:.2} times as long a step as half, with {:.3} of its bytes.",
            ragged.context_tokens,
            ragged.batch,
            ragged.step_s.median / half.step_s.median,
            ragged.cache_bytes as f64 / half.cache_bytes as f64
        );
    }
    if text.is_empty() { text } else { text + "\n" }
}

/// Resident memory by what it is for.
fn held(report: &Report) -> String {
    if report.memory.is_empty() {
        return String::new();
    }
    let rows = report.memory.iter().map(|held| {
        let Memory { peak, program, weights, cache, activations } = held.memory;
        let sizes = [peak, program, weights, cache, activations].map(|size| bytes(size.into()));
        [held.context_tokens.to_string(), held.layout.to_string()].into_iter().chain(sizes).collect()
    });
    let header = ["context", "layout", "resident at most", "program", "weights", "cache", "activations"];
    let load = report
        .load_peak_bytes
        .map_or_else(String::new, |peak| format!("; loading the model took {} at most", bytes(peak.into())));
    format!("\nResident memory of a prefill and a token{load}\n\n{}", table(&header, rows.collect()))
}
