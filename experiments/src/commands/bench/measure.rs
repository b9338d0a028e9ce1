//! The measurements of `bench`: layouts take turns, so that what disturbs one disturbs all.

use std::time::Instant;

use anyhow::{Context, Result};
use pressroom::cache::{Bits, Quantization};
use pressroom::pipeline::{Asked, Compressed, DecodeOptions, Session, answer};
use pressroom::press::{Budget, Built, Params, Pipeline, Stage};
use pressroom_kernels::probe;
use serde::{Deserialize, Serialize};

use crate::cli::{BenchArgs, BenchLayout};
use crate::engine::Engine;

/// Times that memory is read each time its speed is asked for.
const PROBES: usize = 3;

/// Seconds of several rounds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Times {
    /// The middle one.
    pub median: f64,
    /// The shortest.
    pub min: f64,
    /// The longest.
    pub max: f64,
}

impl Times {
    pub fn of(seconds: &[f64]) -> Self {
        let mut seconds = seconds.to_vec();
        seconds.sort_by(f64::total_cmp);
        let pick = |index: usize| seconds.get(index).copied().unwrap_or(f64::NAN);
        Self { median: pick(seconds.len() / 2), min: pick(0), max: pick(seconds.len().saturating_sub(1)) }
    }
}

/// A context's cache in one layout.
pub struct Prefilled {
    /// The layout.
    pub layout: BenchLayout,
    /// Seconds of the prefill, press and quantization included.
    pub prefill_s: Times,
    /// The cache.
    pub context: Compressed,
}

/// Decoding with so many forks of a cache.
pub struct Decoded {
    /// Seconds of one step of the whole batch.
    pub step_s: Times,
    /// The token that follows the context and one token more.
    pub first_token: i64,
    /// Bytes a second at which memory was read in turns with the steps, the median.
    pub bandwidth: f64,
}

/// Token ids to measure with. Any will do, the arithmetic is the same: multiples of a prime spread over the vocabulary.
pub fn made_up_ids(tokens: usize, vocabulary: i64) -> Vec<i64> {
    (0..tokens as i64).map(|index| index * 7919 % vocabulary).collect()
}

/// Prefills a context into each layout, and once more for every round after the first.
pub fn prefill(engine: &Engine, tokens: usize, args: &BenchArgs) -> Result<Vec<Prefilled>> {
    let ids = made_up_ids(tokens, engine.model.config().vocab_size);
    let mut seconds = vec![Vec::new(); args.layout.len()];
    let mut contexts: Vec<Option<Compressed>> = args.layout.iter().map(|_| None).collect();
    for _ in 0..args.rounds {
        for ((&layout, seconds), kept) in args.layout.iter().zip(&mut seconds).zip(&mut contexts) {
            drop(kept.take());
            let start = Instant::now();
            *kept = Some(compress(engine, &ids, layout)?);
            probe::wait(engine.model.device());
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let layouts = args.layout.iter().zip(&seconds).zip(contexts);
    layouts
        .map(|((&layout, seconds), context)| {
            let context = context.context("rounds is 0: there is nothing to measure")?;
            Ok(Prefilled { layout, prefill_s: Times::of(seconds), context })
        })
        .collect()
}

/// Decodes with `batch` forks of each cache; every step is a time.
pub fn decode(engine: &Engine, prefilled: &[Prefilled], batch: usize, args: &BenchArgs) -> Result<Vec<Decoded>> {
    let options = DecodeOptions { max_new_tokens: args.new_tokens + 1, eos_token_ids: vec![] };
    let mut seconds = vec![Vec::new(); prefilled.len()];
    let mut first = vec![0; prefilled.len()];
    let mut bandwidths = vec![Vec::new(); prefilled.len()];
    for _ in 0..args.rounds {
        for (index, Prefilled { context, .. }) in prefilled.iter().enumerate() {
            bandwidths[index].push(probe::read_bandwidth_of(engine.model.device(), PROBES)?);
            let position = context.cache.position() as usize;
            let next = made_up_ids(position + 1, engine.model.config().vocab_size).split_off(position);
            let asked = vec![Asked { context, question: &next }; batch];
            let mut last: Option<Instant> = None;
            let answers = answer(&engine.model, &asked, &options, &mut |question, _| {
                if question + 1 == batch {
                    let now = Instant::now();
                    seconds[index].extend(last.map(|last| (now - last).as_secs_f64()));
                    last = Some(now);
                }
            })?;
            first[index] = answers.first().and_then(|answer| answer.token_ids.first()).copied().unwrap_or_default();
        }
    }
    let decoded = seconds.iter().zip(first).zip(&bandwidths);
    let all = decoded.map(|((seconds, first_token), bandwidths)| Decoded {
        step_s: Times::of(seconds),
        first_token,
        bandwidth: Times::of(bandwidths).median,
    });
    Ok(all.collect())
}

/// One token after a context.
pub fn step(engine: &Engine, context: &Compressed) -> Result<()> {
    let options = DecodeOptions { max_new_tokens: 1, eos_token_ids: vec![] };
    answer(&engine.model, &[Asked { context, question: &[1] }], &options, &mut |_, _| {})?;
    Ok(())
}

/// A context in a layout.
pub fn compress(engine: &Engine, ids: &[i64], layout: BenchLayout) -> Result<Compressed> {
    let layers = engine.model.geometry().layers;
    let mut session = Session::new(pipeline(layout, layers)?.stored(quantization(layout)));
    engine.model.prefill(ids, 0, &mut [&mut session])?.pop().context("the session is gone")??;
    Ok(session.finish(layers)?)
}

fn pipeline(layout: BenchLayout, layers: usize) -> Result<Pipeline> {
    let registry = pressroom_presses::registry()?;
    let build = |name: &str, inner: Vec<Built>| -> Result<Built> {
        let entry = registry.find(name).with_context(|| format!("the registry has no {name}"))?;
        Ok(entry.build(&Params::new(), inner)?)
    };
    let press = match layout {
        BenchLayout::Dense | BenchLayout::Int8 | BenchLayout::Int4 | BenchLayout::Int2 => {
            return Ok(Pipeline::default());
        }
        BenchLayout::Half => build("knorm", Vec::new())?,
        BenchLayout::Ragged => build("adakv", vec![build("knorm", Vec::new())?])?,
    };
    let budgets = vec![Budget::from_ratio(0.5)?; layers];
    Ok(Pipeline::new(vec![Stage { method: press.into_method(), budgets }], layers)?)
}

/// How a layout quantizes: groups of 64 tokens, the last 128 in full precision.
fn quantization(layout: BenchLayout) -> Option<Quantization> {
    let bits = match layout {
        BenchLayout::Dense | BenchLayout::Half | BenchLayout::Ragged => return None,
        BenchLayout::Int8 => Bits::Eight,
        BenchLayout::Int4 => Bits::Four,
        BenchLayout::Int2 => Bits::Two,
    };
    Some(Quantization::of(bits))
}
