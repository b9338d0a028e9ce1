//! The press under test, and how it is asked.

use super::case::{Case, Made, Placement, place};
use super::{Fault, Verdict};
use crate::call::Failure;
use crate::instance::{Instance, RawBudget};
use crate::layer::{Dtype, Layout, Lent};
use crate::library::LoadedPress;

/// Lengths of context that are tried, shortest first: a press may refuse short ones.
const LENGTHS: [usize; 4] = [100, 260, 1030, 4100];

/// What results are filled with before the press writes them: a NaN that nobody computes.
const UNWRITTEN: u32 = 0x7FC0_DEAD;

/// A press under test.
pub(super) struct Subject<'a> {
    pub(super) press: &'a LoadedPress,
    pub(super) seed: u64,
}

/// What a press has answered.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// `[batch, kv_heads, tokens]`
    Scores(Vec<f32>),
    /// Of each KV head of each sequence.
    Kept(Vec<Row>),
}

/// How many entries a KV head keeps, and which, as far as they were written.
pub(super) type Row = (i64, Vec<i64>);

impl<'a> Subject<'a> {
    pub(super) fn new(press: &'a LoadedPress, seed: u64) -> Self {
        Self { press, seed }
    }

    pub(super) fn is_scorer(&self) -> bool {
        self.press.description.is_scorer()
    }

    /// An instance with default parameters.
    pub(super) fn create(&self) -> Result<Instance, Failure> {
        Instance::create(self.press, &self.defaults(None))
    }

    /// One that knows the model of plain layers.
    pub(super) fn instance(&self) -> Result<Instance, Failure> {
        self.instance_for(&Case::plain(1, self.seed))
    }

    /// One that knows the model of a case.
    pub(super) fn instance_for(&self, case: &Case) -> Result<Instance, Failure> {
        let instance = self.create()?;
        instance.prepare(&case.model())?;
        Ok(instance)
    }

    /// Every parameter that has a default, as JSON; `other` replaces one of them.
    pub(super) fn defaults(&self, other: Option<(&str, serde_json::Value)>) -> String {
        let params = self.press.description.info().map(|info| info.params).unwrap_or_default();
        let mut values = serde_json::Map::new();
        for param in params {
            if let Some(default) = param.default {
                values.insert(param.name, serde_json::to_value(default).unwrap_or_default());
            }
        }
        if let Some((name, value)) = other {
            values.insert(name.to_owned(), value);
        }
        serde_json::Value::Object(values).to_string()
    }

    /// A plain case that the press answers.
    pub(super) fn plain(&self, instance: &Instance) -> Result<Case, Fault> {
        let mut last = String::new();
        for tokens in LENGTHS {
            let case = Case::plain(tokens, self.seed);
            match self.ask(instance, &case) {
                Ok(_) => return Ok(case),
                Err(failure) => last = failure.text,
            }
        }
        Err(Fault::Failed(format!("answers no context of up to {} tokens: {last}", LENGTHS[LENGTHS.len() - 1])))
    }

    /// Asks the press about a case, half of whose entries may be kept.
    pub(super) fn ask(&self, instance: &Instance, case: &Case) -> Result<Answer, Failure> {
        self.ask_at(instance, case, 0.5, Placement::Roomy)
    }

    /// Asks the press about a case; results go where `results` says.
    pub(super) fn ask_at(
        &self,
        instance: &Instance,
        case: &Case,
        ratio: f64,
        results: Placement,
    ) -> Result<Answer, Failure> {
        let made = self.make(instance, case)?;
        let answer = self.ask_about(instance, &made, case, ratio, results);
        made.end(case.taken_back).map_err(lost)?;
        answer
    }

    /// Makes a case, as far as the press needs it.
    pub(super) fn make(&self, instance: &Instance, case: &Case) -> Result<Made, Failure> {
        case.make(&instance.needs()?).map_err(lost)
    }

    /// Asks the press about a case that is made.
    pub(super) fn ask_about(
        &self,
        instance: &Instance,
        made: &Made,
        case: &Case,
        ratio: f64,
        results: Placement,
    ) -> Result<Answer, Failure> {
        let shape = [case.batch as i64, case.kv_heads as i64, case.tokens as i64];
        let (rows, tokens) = (case.batch * case.kv_heads, case.tokens);
        if self.is_scorer() {
            let (_memory, data) = place(4 * rows * tokens, results).map_err(lost)?;
            let data = data.cast::<u32>();
            // SAFETY: memory for as many numbers was just made; the press writes within the same.
            let scores = unsafe {
                std::slice::from_raw_parts_mut(data, rows * tokens).fill(UNWRITTEN);
                instance.score(&made.layer, &Lent::writable(data.cast(), Layout::contiguous(Dtype::F32, &shape)))?;
                std::slice::from_raw_parts(data.cast::<f32>(), rows * tokens).to_vec()
            };
            return Ok(Answer::Scores(scores));
        }
        let (_counts, counts) = place(8 * rows, results).map_err(lost)?;
        let (_indices, indices) = place(8 * rows * tokens, results).map_err(lost)?;
        let (counts, indices) = (counts.cast::<i64>(), indices.cast::<i64>());
        let budget = RawBudget { compression_ratio: ratio, kept: kept(tokens, ratio) };
        // SAFETY: as above.
        unsafe {
            std::slice::from_raw_parts_mut(counts, rows).fill(0);
            std::slice::from_raw_parts_mut(indices, rows * tokens).fill(-1);
            let lent_counts = Lent::writable(counts.cast(), Layout::contiguous(Dtype::I64, &shape[..2]));
            let lent_indices = Lent::writable(indices.cast(), Layout::contiguous(Dtype::I64, &shape));
            instance.select(&made.layer, budget, &lent_counts, &lent_indices)?;
            let counts = std::slice::from_raw_parts(counts, rows);
            let indices = std::slice::from_raw_parts(indices, rows * tokens);
            let row = |(row, count): (usize, &i64)| {
                let written = usize::try_from(*count).unwrap_or(0).min(tokens);
                (*count, indices[row * tokens..row * tokens + written].to_vec())
            };
            Ok(Answer::Kept(counts.iter().enumerate().map(row).collect()))
        }
    }
}

fn lost(error: std::io::Error) -> Failure {
    Failure::new(format!("the check has no memory: {error}"))
}

/// Entries that may be kept of `tokens`.
pub(super) fn kept(tokens: usize, ratio: f64) -> i64 {
    ((tokens as f64 * (1.0 - ratio)) as i64).max(1)
}

impl Answer {
    /// Whether two answers are the same to the last bit.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scores(a), Self::Scores(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
            }
            (Self::Kept(a), Self::Kept(b)) => a == b,
            _ => false,
        }
    }

    /// How two answers differ by more than `tolerance` of the range of the scores: sums in another order may round
    /// otherwise. Decisions have no range, so that any difference counts.
    pub(super) fn far(&self, other: &Self, tolerance: f32) -> Option<String> {
        let (Self::Scores(a), Self::Scores(b)) = (self, other) else {
            return (!self.same(other)).then(|| "another decision".into());
        };
        let finite = || a.iter().copied().filter(|score| score.is_finite());
        let range = (finite().fold(f32::MIN, f32::max) - finite().fold(f32::MAX, f32::min)).max(f32::MIN_POSITIVE);
        let differs = |(a, b): (&f32, &f32)| a != b && (a - b).abs() > tolerance * range;
        a.iter().zip(b).position(differs).map(|at| format!("the score {} instead of {}", b[at], a[at]))
    }

    /// Whether everything was written.
    pub(super) fn complete(&self) -> Verdict {
        match self {
            Self::Scores(scores) => match scores.iter().position(|score| score.to_bits() == UNWRITTEN) {
                Some(at) => super::failed(format!("leaves score {at} of {} unwritten", scores.len())),
                None => Ok(()),
            },
            // Counts beyond the row are another check's concern.
            Self::Kept(heads) => {
                match heads.iter().position(|(count, row)| row.contains(&-1) && *count == row.len() as i64) {
                    Some(head) => super::failed(format!("counts more entries than it writes for KV head {head}")),
                    None => Ok(()),
                }
            }
        }
    }

    /// Whether the numbers are ones that the host accepts, for a case of `tokens` tokens.
    pub(super) fn valid(&self, tokens: usize) -> Verdict {
        self.complete()?;
        match self {
            Self::Scores(scores) => match scores.iter().find(|score| score.is_nan() || **score == f32::NEG_INFINITY) {
                Some(score) => super::failed(format!("gives the score {score}")),
                None => Ok(()),
            },
            Self::Kept(heads) => {
                let tokens = tokens as i64;
                if let Some((count, _)) = heads.iter().find(|(count, _)| !(0..=tokens).contains(count)) {
                    return super::failed(format!("keeps {count} of {tokens} entries"));
                }
                let mut entries = heads.iter().flat_map(|(_, row)| row);
                match entries.find(|entry| !(0..tokens).contains(*entry)) {
                    Some(entry) => super::failed(format!("keeps entry {entry} of {tokens}")),
                    None => Ok(()),
                }
            }
        }
    }
}
