//! Every press of the registry, built small, around presses drawn by a seed; and chains of them.

use std::sync::Arc;

use pressroom::press::{
    Budget, Budgeting, Built, Entry, Kind, Method, ModelFacts, ParamType, Params, Pipeline, Press, Registry, Scorer,
    Stage, Value,
};
use pressroom::random::derive_seed;

use crate::support::{GEOMETRY, HIDDEN, golden};

/// Windows and the like, small enough for contexts of [`SHORTEST`] tokens.
const SMALL: &[(&str, i64)] = &[
    ("block_size", 8),
    ("chunk_length", 8),
    ("chunk_size", 8),
    ("history_window", 6),
    ("kernel_size", 3),
    ("lag_size", 4),
    ("local_window_size", 4),
    ("n_future_positions", 16),
    ("n_initial", 2),
    ("n_last", 1),
    ("n_recent", 3),
    ("n_sink", 2),
    ("num_sinks", 2),
    ("proxy_tokens", 4),
    ("recent_window", 2),
    ("sink_size_end", 1),
    ("sink_size_start", 2),
    ("sketch_dimension", 4),
    ("window_size", 4),
];

/// The same for shares.
const SHARES: &[(&str, f64)] = &[("key_channel_compression_ratio", 0.5), ("lazy_threshold", 0.1)];

/// A context that is long enough for every press.
pub const SHORTEST: i64 = 16;

/// A press with what it wraps.
pub struct Sample {
    /// As in `adakv(knorm)`.
    pub name: String,
    pub built: Built,
    /// Whether it takes a compression ratio.
    pub given: bool,
    /// Whether it or what it wraps draws random numbers.
    pub draws: bool,
    /// The scorer that it wraps: it may decide how much each layer keeps.
    pub wrapped: Option<Arc<dyn Scorer>>,
    /// Tokens of the chunks that it decides on.
    pub chunk: Option<i64>,
}

impl Sample {
    pub fn method(&self) -> Method {
        self.built.clone().into_method()
    }

    /// As a press that decides layer by layer.
    pub fn press(&self) -> Option<Arc<dyn Press>> {
        match self.method() {
            Method::Layer(press) => Some(press),
            _ => None,
        }
    }

    pub fn scorer(&self) -> Option<Arc<dyn Scorer>> {
        self.built.clone().into_scorer().ok()
    }

    /// By how many KV pairs of all heads a layer of `tokens` may miss what its ratio leaves: in each head one for each
    /// chunk where chunks are decided on one by one; two chunks where they are kept as a whole, for their number is
    /// rounded down and the last may be short.
    pub fn slack(&self, tokens: i64) -> i64 {
        self.chunk.map_or(0, |chunk| GEOMETRY.kv_heads * (2 * chunk).max((tokens + chunk - 1) / chunk))
    }
}

/// Numbers that a seed determines.
pub struct Draw(u64, u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(seed, 0)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.1 += 1;
        (derive_seed(self.0, self.1) % bound as u64) as usize
    }
}

/// Every press of the registry; wrappers around presses that the seed draws.
pub fn samples(seed: u64) -> Vec<Sample> {
    let registry = pressroom_presses::registry().unwrap();
    let mut draw = Draw::new(seed);
    registry.entries().map(|entry| sample(&registry, entry, &mut draw)).collect()
}

/// Those that decide layer by layer, with their presses.
pub fn layered(seed: u64) -> Vec<(Sample, Arc<dyn Press>)> {
    let presses = samples(seed).into_iter().filter_map(|sample| sample.press().map(|press| (sample, press)));
    presses.collect()
}

/// Those that score.
pub fn scorers(seed: u64) -> Vec<(Sample, Arc<dyn Scorer>)> {
    let scorers = samples(seed).into_iter().filter_map(|sample| sample.scorer().map(|scorer| (sample, scorer)));
    scorers.collect()
}

/// Two or three of `presses` at ratios that the seed draws, with their names.
pub fn chain(presses: &[Sample], seed: u64) -> (String, Vec<Stage>) {
    let mut draw = Draw::new(seed);
    let (mut names, mut stages) = (Vec::new(), Vec::new());
    for _ in 0..2 + draw.below(2) {
        let sample = &presses[draw.below(presses.len())];
        let budget = Budget::from_ratio([0.1, 0.25, 0.4][draw.below(3)]).unwrap();
        names.push(format!("{} at {budget}", sample.name));
        stages.push(Stage { method: sample.method(), budgets: vec![budget; GEOMETRY.layers] });
    }
    (names.join(" > "), stages)
}

/// A press alone, at one ratio in every layer.
pub fn alone(method: Method, budget: Budget) -> Pipeline {
    Pipeline::new(vec![Stage { method, budgets: vec![budget; GEOMETRY.layers] }], GEOMETRY.layers).unwrap()
}

/// A sample of a press. What it wraps is drawn again where the press refuses it by name.
fn sample(registry: &Registry, entry: &Entry, draw: &mut Draw) -> Sample {
    for _ in 0..20 {
        match attempt(registry, entry, draw) {
            Ok(sample) => return sample,
            Err(error) if entry.info().wraps.is_empty() => panic!("{}: {error}", entry.info().name),
            Err(_) => {}
        }
    }
    panic!("{} wraps nothing of what was drawn", entry.info().name)
}

/// Every press that wraps one scorer, around this one.
pub fn wrappers(scorer: &Arc<dyn Scorer>) -> Vec<(String, Method)> {
    let registry = pressroom_presses::registry().unwrap();
    let wraps_one = |entry: &&Entry| matches!(&entry.info().wraps[..], [wraps] if wraps.accepts_kind(Kind::Scorer));
    let build = |entry: &Entry| {
        let params = small_params(entry, &mut Draw::new(0));
        let method = entry.build(&params, vec![Built::Scorer(scorer.clone())]).ok()?.into_method();
        prepare(&method, &entry.info().name);
        Some((entry.info().name.clone(), method))
    };
    registry.entries().filter(wraps_one).filter_map(build).collect()
}

/// Parameters for short contexts; choices are drawn.
fn small_params(entry: &Entry, draw: &mut Draw) -> Params {
    let info = entry.info();
    let takes = |name: &str| info.param(name).is_some();
    // What has no default stays away.
    let sized = |name: &str| info.param(name).is_some_and(|param| param.default.is_some());
    let small = SMALL.iter().map(|(name, small)| (*name, Value::Integer(*small)));
    let shares = SHARES.iter().map(|(name, share)| (*name, Value::Number(*share)));
    let mut params: Params =
        small.chain(shares).filter(|(name, _)| sized(name)).map(|(name, value)| (name.to_owned(), value)).collect();
    for param in &info.params {
        let value = match param.kind {
            ParamType::Flag => Value::Flag(draw.below(2) == 1),
            ParamType::Text if !param.choices.is_empty() => {
                Value::Text(param.choices[draw.below(param.choices.len())].clone())
            }
            _ => continue,
        };
        params.insert(param.name.clone(), value);
    }
    if takes("threshold") {
        params.insert("threshold".into(), Value::Number(-2.0));
    }
    if takes("side_data") {
        let folder = golden("presses").join(&info.name).join("gqa");
        params.insert("side_data".into(), Value::Text(folder.to_str().unwrap().to_owned()));
    }
    params
}

fn attempt(registry: &Registry, entry: &Entry, draw: &mut Draw) -> pressroom::Result<Sample> {
    let info = entry.info();
    let takes = |name: &str| info.param(name).is_some();
    let params = small_params(entry, draw);
    let inner = parts(registry, entry, draw);
    let built = entry.build(&params, inner.iter().map(|inner| inner.built.clone()).collect())?;
    prepare(&built.clone().into_method(), &info.name);
    let names: Vec<&str> = inner.iter().map(|inner| inner.name.as_str()).collect();
    let name = if names.is_empty() { info.name.clone() } else { format!("{}({})", info.name, names.join(", ")) };
    Ok(Sample {
        name,
        built,
        given: info.budgeting == Budgeting::Given,
        wrapped: inner.first().and_then(Sample::scorer),
        draws: takes("seed") || inner.iter().any(|inner| inner.draws),
        chunk: params.contains_key("chunk_length").then_some(8),
    })
}

fn prepare(method: &Method, name: &str) {
    let facts = ModelFacts::new("tiny", GEOMETRY, HIDDEN);
    method.prepare(&facts).unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Presses for `entry` to wrap, drawn from those that fit.
fn parts(registry: &Registry, entry: &Entry, draw: &mut Draw) -> Vec<Sample> {
    let wraps = entry.info().wraps.iter();
    wraps
        .map(|wraps| {
            // Presses of the decoding phase wrap others themselves; everything else is wrapped plain.
            let plain = |other: &&Entry| match wraps.kind {
                Kind::Decoding => other.info().wraps.iter().all(|inner| inner.kind != Kind::Decoding),
                _ => other.info().wraps.is_empty(),
            };
            let fitting = |other: &&Entry| plain(other) && wraps.accepts_kind(other.info().kind);
            let candidates: Vec<&Entry> = registry.entries().filter(fitting).collect();
            sample(registry, candidates[draw.below(candidates.len())], draw)
        })
        .collect()
}
