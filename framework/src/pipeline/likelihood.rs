//! How likely a model finds a text after a compressed context, and how far that is from the uncompressed context.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::cache::KvCache;
use crate::error::{Error, Result};
use crate::model::{Llama, Step};
use crate::press::StepHook;

use super::session::Compressed;

/// Tokens that are fed at a time: bounds the logits, which are `[tokens, vocabulary]` for every sequence.
const SLICE: usize = 64;

/// What one compressed context makes of a continuation; means over its tokens but the first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likelihood {
    /// Mean negative log-likelihood of a token, nats.
    pub nll: f64,
    /// Mean Kullback-Leibler divergence of the next token's distribution from that after the uncompressed context, nats.
    pub kl: f64,
    /// Share of the positions at which both find the same token likeliest.
    pub agreement: f64,
}

impl Likelihood {
    /// `exp(nll)`.
    pub fn perplexity(self) -> f64 {
        self.nll.exp()
    }
}

/// One sequence that follows the continuation.
struct Follower {
    cache: KvCache,
    hook: Option<Box<dyn StepHook + Send>>,
    /// Of the log-likelihoods, the divergences and the agreements so far.
    sums: [f64; 3],
}

impl Follower {
    fn of(context: &Compressed) -> Result<Self> {
        Ok(Self { cache: context.cache.fork()?, hook: context.start(), sums: [0.0; 3] })
    }

    /// Feeds a slice, which `predicted` (`[tokens, 1]`) follows: the uncompressed context has `expected` of it, and finds
    /// `likeliest`.
    fn follow(
        &mut self,
        model: &Llama,
        fed: &[i64],
        predicted: &Tensor,
        expected: &Tensor,
        likeliest: &Tensor,
    ) -> Result<()> {
        let found = log_probabilities(model, self, fed)?;
        let likelihood = found.f_gather(1, predicted, false)?;
        let divergence = expected.f_exp()?.f_mul(&expected.f_sub(&found)?)?;
        let same = found.f_argmax(-1, false)?.f_eq_tensor(likeliest)?;
        for (sum, values) in self.sums.iter_mut().zip([likelihood, divergence, same]) {
            *sum += values.f_sum(Kind::Double)?.f_double_value(&[])?;
        }
        Ok(())
    }
}

/// Feeds `continuation` after each of `contexts`, teacher-forced, and compares what it predicts with `uncompressed`,
/// which is fed once for all of them. The caches stay as they are. The first token is given: what predicts it is the
/// context's last token, which a prefill does not ask for its prediction.
///
/// # Errors
/// The continuation has fewer than two tokens or holds an unknown one, or the uncompressed context cannot be followed.
/// A context that cannot (a cache of another model, a failing operation) is an error in its place of the list.
pub fn likelihood(
    model: &Llama,
    uncompressed: &Compressed,
    contexts: &[&Compressed],
    continuation: &[i64],
) -> Result<Vec<Result<Likelihood>>> {
    if continuation.len() < 2 {
        return Err(Error::input("a continuation needs two tokens: the first one is given, the others are predicted"));
    }
    let mut reference = Follower::of(uncompressed)?;
    let mut followers: Vec<Result<Follower>> = contexts.iter().map(|context| Follower::of(context)).collect();
    let (fed, predicted) = (&continuation[..continuation.len() - 1], &continuation[1..]);
    for (fed, predicted) in fed.chunks(SLICE).zip(predicted.chunks(SLICE)) {
        let expected = log_probabilities(model, &mut reference, fed)?;
        let likeliest = expected.f_argmax(-1, false)?;
        let predicted = Tensor::f_from_slice(predicted)?.f_to_device(model.device())?.f_unsqueeze(1)?;
        for follower in &mut followers {
            let followed =
                follower.as_mut().map(|follower| follower.follow(model, fed, &predicted, &expected, &likeliest));
            if let Ok(Err(error)) = followed {
                *follower = Err(error);
            }
        }
    }
    let mean = |sum: f64| sum / predicted.len() as f64;
    let likelihood = |Follower { sums: [likelihood, divergence, same], .. }| Likelihood {
        nll: -mean(likelihood),
        kl: mean(divergence).max(0.0),
        agreement: mean(same),
    };
    Ok(followers.into_iter().map(|follower| follower.map(likelihood)).collect())
}

/// Log-probabilities of the next token after each of `tokens`, `[tokens, vocabulary]`, in f32.
fn log_probabilities(model: &Llama, follower: &mut Follower, tokens: &[i64]) -> Result<Tensor> {
    let hook = follower.hook.as_mut().map(|hook| hook.as_mut() as &mut dyn StepHook);
    let hidden = model.forward(&mut [Step { tokens, cache: &mut follower.cache, hook }])?;
    Ok(model.logits(&hidden)?.f_to_kind(Kind::Float)?.f_log_softmax(-1, Kind::Float)?)
}
