//! `pressroom bench`: prefill and decoding speed beside what the memory allows.

use std::time::Instant;

use anyhow::{Context, Result};
use pressroom::cache::{Bits, Quantization};
use pressroom::pipeline::{Asked, Compressed, DecodeOptions, Session, answer};
use pressroom::press::{Budget, Params, Pipeline, Stage};
use pressroom_kernels::dispatch::Choice;
use pressroom_kernels::probe;
use serde::{Deserialize, Serialize};
use tch::Device;

use super::print;
use crate::cli::{BenchArgs, BenchLayout};
use crate::engine::{Engine, open_model};
use crate::results::Machine;
use crate::table::{bytes, table};

/// Seconds of several rounds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Times {
    median: f64,
    min: f64,
    max: f64,
}

impl Times {
    fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let pick = |index: usize| seconds.get(index).copied().unwrap_or(f64::NAN);
        Self { median: pick(seconds.len() / 2), min: pick(0), max: pick(seconds.len().saturating_sub(1)) }
    }
}

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
    /// `step_bytes` a second over the bandwidth measured in the same run.
    bandwidth_share: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    model: String,
    dtype: String,
    threads: i32,
    kernels: String,
    read_bandwidth_bytes_per_s: f64,
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
    if let Some(threads) = args.threads {
        tch::set_num_threads(threads);
    }
    let engine = Engine::load(&open_model(&args.model)?, &args.device, args.dtype)?;
    let device = engine.model.device();
    let kernels = match Choice::of_process()? {
        Choice::Kernels(level) if device == Device::Cpu => level.name(),
        Choice::Kernels(_) => "CUDA",
        _ => "reference",
    };
    let bandwidth = probe::read_bandwidth_of(device, args.rounds.max(3))?;
    let mut rows = Vec::new();
    for &context in &args.context {
        for &layout in &args.layout {
            let (cache, prefill_s) = prefill(&engine, context, layout, args.rounds)?;
            for &batch in &args.batch {
                rows.push(decode(&engine, &cache, args, (context, layout, batch, prefill_s), bandwidth)?);
            }
        }
    }
    let report = Report {
        model: engine.name.clone(),
        dtype: format!("{:?}", engine.model.kind()),
        threads: tch::get_num_threads(),
        kernels: kernels.to_owned(),
        read_bandwidth_bytes_per_s: bandwidth,
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

/// Prefills a context of that many tokens, `rounds` times.
fn prefill(engine: &Engine, tokens: usize, layout: BenchLayout, rounds: usize) -> Result<(Compressed, Times)> {
    let layers = engine.model.geometry().layers;
    let pipeline = match layout {
        BenchLayout::Dense | BenchLayout::Int8 | BenchLayout::Int4 | BenchLayout::Int2 => Pipeline::default(),
        BenchLayout::Ragged => {
            let registry = pressroom_presses::registry()?;
            let find = |name: &str| registry.find(name).with_context(|| format!("the registry has no {name}"));
            let scorer = find("knorm")?.build(&Params::new(), Vec::new())?;
            let method = find("adakv")?.build(&Params::new(), vec![scorer])?.into_method();
            Pipeline::new(vec![Stage { method, budgets: vec![Budget::from_ratio(0.5)?; layers] }], layers)?
        }
    };
    // Any ids will do: the arithmetic is the same. Multiples of a prime spread over the vocabulary.
    let vocabulary = engine.model.config().vocab_size;
    let ids: Vec<i64> = (0..tokens as i64).map(|index| index * 7919 % vocabulary).collect();
    let (mut times, mut compressed) = (Vec::new(), None);
    for _ in 0..rounds {
        drop(compressed.take());
        let start = Instant::now();
        let mut session = Session::new(pipeline.clone());
        engine.model.prefill(&ids, 0, &mut [&mut session])?.pop().context("the session is gone")??;
        let mut context = session.finish(layers)?;
        if let Some(quantization) = quantization(layout) {
            context.cache = context.cache.quantized(quantization)?;
        }
        probe::wait(engine.model.device());
        times.push(start.elapsed().as_secs_f64());
        compressed = Some(context);
    }
    Ok((compressed.context("rounds is 0: there is nothing to measure")?, Times::of(times)))
}

/// How a layout quantizes: groups of 64 tokens, the last 128 in full precision.
fn quantization(layout: BenchLayout) -> Option<Quantization> {
    let bits = match layout {
        BenchLayout::Dense | BenchLayout::Ragged => return None,
        BenchLayout::Int8 => Bits::Eight,
        BenchLayout::Int4 => Bits::Four,
        BenchLayout::Int2 => Bits::Two,
    };
    Some(Quantization::of(bits))
}

/// Decodes with `batch` forks of a cache; every step is a time.
fn decode(
    engine: &Engine,
    context: &Compressed,
    args: &BenchArgs,
    (context_tokens, layout, batch, prefill_s): (usize, BenchLayout, usize, Times),
    bandwidth: f64,
) -> Result<Row> {
    let options = DecodeOptions { max_new_tokens: args.new_tokens + 1, eos_token_ids: vec![] };
    let asked = vec![Asked { context, question: &[1] }; batch];
    let mut times = Vec::new();
    for _ in 0..args.rounds {
        let mut last: Option<Instant> = None;
        answer(&engine.model, &asked, &options, &mut |question, _| {
            if question + 1 == batch {
                let now = Instant::now();
                times.extend(last.map(|last| (now - last).as_secs_f64()));
                last = Some(now);
            }
        })?;
    }
    let step_s = Times::of(times);
    let element = engine.model.kind().elt_size_in_bytes() as u64;
    let weights = u64::try_from(engine.model.config().parameters())? * element;
    let step_bytes = weights + (batch * context.cache.bytes()) as u64;
    Ok(Row {
        context_tokens,
        layout,
        batch,
        prefill_s,
        step_s,
        decode_tokens_per_s: batch as f64 / step_s.median,
        cache_bytes: context.cache.bytes(),
        step_bytes,
        bandwidth_share: step_bytes as f64 / step_s.median / bandwidth,
    })
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
        "{} in {}, {} threads, {} kernels; memory is read at {:.1} GB/s\n\n{}",
        report.model,
        report.dtype,
        report.threads,
        report.kernels,
        report.read_bandwidth_bytes_per_s / 1e9,
        table(&header, rows)
    )
}
