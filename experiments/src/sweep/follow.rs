//! Continuations: measured after a prefill, not decoded.

use std::time::Instant;

use pressroom::pipeline::{Compressed, Likelihood, likelihood};
use pressroom::{Error, Result};

use crate::engine::Engine;
use crate::results::Record;
use crate::task::Turn;

/// The record of a continuation of a session's context, compared with the uncompressed one; `blank` is without an answer.
pub fn follow(
    engine: &Engine,
    uncompressed: &Result<Compressed>,
    session: &Result<Compressed>,
    turn: &Turn,
    blank: Record,
) -> Record {
    let start = Instant::now();
    let (uncompressed, session) = match (uncompressed, session) {
        (Ok(uncompressed), Ok(session)) => (uncompressed, session),
        (_, Err(error)) | (Err(error), _) => return Record { error: Some(error.to_string()), ..blank },
    };
    let found = match measure(engine, uncompressed, session, turn) {
        Ok(found) => found,
        Err(error) => return Record { error: Some(error.to_string()), ..blank },
    };
    let seconds = start.elapsed().as_secs_f64();
    let measures = [("nll", found.nll), ("kl", found.kl), ("agreement", found.agreement)];
    Record {
        score: (-found.nll).exp(),
        measures: measures.map(|(name, value)| (name.to_owned(), value)).into(),
        achieved_ratio: session.achieved_ratio(blank.context_tokens),
        cache_bytes: session.cache.bytes() as u64,
        decode_s: seconds,
        elapsed_s: seconds,
        ..blank
    }
}

fn measure(engine: &Engine, uncompressed: &Compressed, session: &Compressed, turn: &Turn) -> Result<Likelihood> {
    let continuation = engine.texts.tokenizer.encode(&turn.answers.concat())?;
    let found = likelihood(&engine.model, uncompressed, &[session], &continuation)?;
    found.first().copied().ok_or_else(|| Error::input("a continuation was left without a measure"))
}
