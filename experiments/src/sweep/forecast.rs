//! What a sweep is going to do and to take, told before it starts.

use std::time::Instant;

use pressroom::Result;
use pressroom::model::LlamaConfig;
use pressroom_kernels::linear::linear;
use tch::{Device, Kind, Tensor};

use super::{ENOUGH, Memory, Planned, Unit};

/// Rows of a product that stands for a prefill.
const MANY: i64 = 512;

/// Rows of a product that stands for a step of a large batch.
const SOME: i64 = 32;

/// How fast the machine multiplies with a model's weights.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Seconds for a parameter and a token of a prefill.
    prefill: f64,
    /// Seconds for a parameter and a step of one sequence, which is what reading it takes.
    step: f64,
    /// Seconds for a parameter and a sequence more.
    sequence: f64,
    /// Seconds for a byte that is read.
    byte: f64,
}

impl Rates {
    /// Measures products with weights of the size of the model's, which takes a fraction of a second.
    ///
    /// # Errors
    /// The device cannot hold them.
    pub fn measure(config: &LlamaConfig, kind: Kind, device: Device) -> Result<Self> {
        let (columns, rows) = (config.hidden_size.min(4096), (2 * config.intermediate_size).min(16384));
        let weight = Tensor::f_ones([rows, columns], (kind, device))?;
        let parameters = (rows * columns) as f64;
        let seconds = |count: i64| -> Result<f64> {
            let input = Tensor::f_ones([count, columns], (kind, device))?;
            let mut best = f64::INFINITY;
            for _ in 0..3 {
                let start = Instant::now();
                // Reading a number waits for the device.
                linear(&input, &weight, None, None, kind)?.f_get(0)?.f_get(0)?.f_double_value(&[])?;
                best = best.min(start.elapsed().as_secs_f64());
            }
            Ok(best / parameters)
        };
        let (one, some, many) = (seconds(1)?, seconds(SOME)?, seconds(MANY)?);
        Ok(Self {
            prefill: many / MANY as f64,
            step: one,
            sequence: (some - one).max(0.0) / (SOME - 1) as f64,
            byte: one / kind.elt_size_in_bytes() as f64,
        })
    }
}

/// A sweep in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Contexts that are read.
    pub prefills: usize,
    /// Compressed caches that are made.
    pub sessions: usize,
    /// Questions that are answered.
    pub answers: usize,
    /// Tokens of the contexts that are read.
    pub prefill_tokens: usize,
    /// Memory at its fullest.
    pub peak_bytes: u64,
    /// Seconds, if every answer is as long as it may be; what the presses themselves compute is not among them.
    pub seconds: f64,
}

impl Forecast {
    /// Of what is planned; `new_tokens(sample, turn)` is the most that an answer takes.
    pub fn of(
        planned: &Planned,
        memory: Memory,
        rates: Rates,
        config: &LlamaConfig,
        new_tokens: impl Fn(usize, usize) -> usize,
    ) -> Self {
        let parameters = config.parameters() as f64;
        let heads = (config.num_attention_heads * config.head_dim) as f64 * config.num_hidden_layers as f64;
        let answers = planned.answers();
        let together = answers.clamp(1, ENOUGH) as f64;
        // A sequence's part of a step: of the weights' way through memory, its own arithmetic, and its cache.
        let step_share = parameters * (rates.step / together + rates.sequence);
        let seconds_of = |unit: &Unit| {
            let tokens = unit.context_tokens as f64;
            // Attention does as much arithmetic for a pair of tokens as a parameter for two tokens.
            let prefill = rates.prefill * tokens * (parameters + tokens * heads);
            let decode = unit.due.iter().flat_map(|due| due.turns.iter().map(move |turn| (due, *turn)));
            let decode = decode.map(|(due, turn)| {
                let question = rates.prefill * parameters * unit.question_tokens[unit.place(turn)] as f64;
                let cache = due.bytes as f64 / due.turns.len() as f64 * rates.byte;
                question + new_tokens(unit.sample, turn) as f64 * (step_share + cache)
            });
            prefill + decode.sum::<f64>()
        };
        Self {
            prefills: planned.units.len(),
            sessions: planned.units.iter().map(|unit| unit.due.len()).sum(),
            answers,
            prefill_tokens: planned.units.iter().map(|unit| unit.context_tokens).sum(),
            peak_bytes: memory.weights + peak(&planned.units, memory),
            seconds: planned.units.iter().map(seconds_of).sum(),
        }
    }
}

/// The most that units take which are at work together.
fn peak(units: &[Unit], memory: Memory) -> u64 {
    let from = |first: usize| {
        let (mut live, mut answers, mut most) = (0, 0, 0);
        for unit in &units[first..] {
            if answers > 0 && (answers >= ENOUGH || !memory.fits(unit, live)) {
                break;
            }
            live += unit.bytes();
            answers += unit.answers();
            most = most.max(live + memory.prefill(unit.context_tokens));
        }
        most
    };
    (0..units.len()).map(from).max().unwrap_or(0)
}
