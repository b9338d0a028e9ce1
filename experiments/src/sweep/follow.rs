//! Continuations: measured after a prefill, not decoded.

use std::time::Instant;

use pressroom::Result;
use pressroom::pipeline::{Compressed, Likelihood, likelihood};

use crate::engine::Engine;
use crate::results::Record;
use crate::task::Turn;

/// The records of one continuation of sessions' contexts, all compared with the uncompressed one; each of `asked` is a
/// record without an answer and its session. Seconds are a session's even share.
pub fn follow(
    engine: &Engine,
    uncompressed: &Result<Compressed>,
    turn: &Turn,
    asked: Vec<(Record, &Result<Compressed>)>,
) -> Vec<Record> {
    let start = Instant::now();
    let contexts: Vec<&Compressed> = asked.iter().filter_map(|(_, session)| session.as_ref().ok()).collect();
    let measured = match uncompressed {
        Ok(uncompressed) => measure(engine, uncompressed, &contexts, turn).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let seconds = start.elapsed().as_secs_f64() / contexts.len().max(1) as f64;
    let mut measured = measured.map(Vec::into_iter);
    let record = |(blank, session): (Record, &Result<Compressed>)| {
        let found = match (session, &mut measured) {
            (Err(error), _) => Err(error.to_string()),
            (Ok(_), Err(error)) => Err(error.clone()),
            (Ok(session), Ok(found)) => match found.next() {
                Some(found) => found.map(|found| (session, found)).map_err(|error| error.to_string()),
                None => Err("a continuation was left without a measure".into()),
            },
        };
        match found {
            Ok((session, found)) => filled(blank, session, found, seconds),
            Err(error) => Record { error: Some(error), ..blank },
        }
    };
    asked.into_iter().map(record).collect()
}

fn filled(blank: Record, session: &Compressed, found: Likelihood, seconds: f64) -> Record {
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

fn measure(
    engine: &Engine,
    uncompressed: &Compressed,
    sessions: &[&Compressed],
    turn: &Turn,
) -> Result<Vec<Result<Likelihood>>> {
    let continuation = engine.texts.tokenizer.encode(&turn.answers.concat())?;
    likelihood(&engine.model, uncompressed, sessions, &continuation)
}
