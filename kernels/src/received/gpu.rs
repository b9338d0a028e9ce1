//! Received attention on a GPU: what `received.cu` is launched with.
#![allow(unsafe_code, reason = "kernels are trusted with addresses")]

use std::f64::consts::LOG2_E;

use tch::{Kind, TchError, Tensor};

use super::Seen;
use crate::attention::default_scale;
use crate::cuda::{Argument, HeadRows, Machine, Program, Rows, Source, TILE, element_name, source};

const RECEIVED: Source = source!("received/received.cu");

/// Blocks that the queries of a head are worth: what few queries lack, chunks of the keys make up for.
const BLOCKS: u32 = 32;

/// Fewest keys of a chunk: what is worth a block's while.
const CHUNK: u32 = 512;

/// A kernel of the source, `denominators` or `received`.
pub(crate) fn program(entry: &'static str, [query, key]: [&str; 2]) -> Program {
    Program::new(&RECEIVED, entry, 256).with("QUERY", query).with("KEY", key)
}

/// Keys of a chunk, in whole tiles. It depends on the context and the queries alone, so that a batch changes no bit of a
/// sequence.
fn chunk(tokens: u32, queries: u32) -> u32 {
    let chunks = (BLOCKS / queries.div_ceil(TILE).max(1)).max(1);
    tokens.div_ceil(chunks).max(CHUNK).next_multiple_of(TILE)
}

/// See [`super::received`], which has checked the shapes. `None` where no kernel knows a dtype.
pub(super) fn run(
    machine: &dyn Machine,
    queries: &Tensor,
    keys: &Tensor,
    seen: Seen<'_>,
) -> Result<Option<Tensor>, TchError> {
    let Some(elements) = element_name(queries.kind()).zip(element_name(keys.kind())) else { return Ok(None) };
    let elements = elements.into();
    let (batch, heads, count, width) = queries.size4()?;
    let (_, kv_heads, tokens, _) = keys.size4()?;
    let sums = Tensor::f_zeros([batch, heads, tokens], (Kind::Float, machine.device()))?;
    if sums.numel() == 0 || count == 0 {
        return Ok(Some(sums));
    }
    let (_queries, query_rows) = HeadRows::of_or_copy(queries)?;
    let (_keys, key_rows) = HeadRows::of_or_copy(keys)?;
    let positions = seen.positions.map(|positions| positions.f_expand([batch, kv_heads, tokens], false)).transpose()?;
    let positions = positions.as_ref().map(HeadRows::of_or_copy).transpose()?;
    let ([_, heads, count], [_, kv_heads, tokens]) = (query_rows.extents, key_rows.extents);
    let chunk = chunk(tokens, count);
    let chunks = tokens.div_ceil(chunk);
    let all_heads = query_rows.heads()?;
    let states = [i64::from(all_heads), i64::from(count), i64::from(chunks), 2];
    let states = Tensor::f_empty(states, (Kind::Float, machine.device()))?;
    let scale = (default_scale(width) * LOG2_E) as f32;
    let attention = [
        Argument::Rows(query_rows.rows),
        Argument::Rows(key_rows.rows),
        Argument::Rows(positions.as_ref().map_or(Rows::NONE, |(_, positions)| positions.rows)),
        Argument::Count(heads),
        Argument::Count(kv_heads),
        Argument::Count(count),
        Argument::Count(tokens),
        Argument::Count(query_rows.width),
        Argument::Position(seen.first),
        Argument::Number(scale),
    ];
    let launch = |entry, grid, own: &[Argument]| {
        // SAFETY: the arguments are the kernels': queries and keys of their dtypes and as many channels, a position for
        // each key or none, a state for each query and chunk, and a sum for each key. The first kernel writes all states.
        unsafe { machine.launch(&program(entry, elements), grid, &[&attention, own].concat()) }
    };
    let own = [Argument::of(&states), Argument::Count(chunk)];
    launch("denominators", [count.div_ceil(TILE), chunks, all_heads], &own)?;
    let own = [Argument::of(&states), Argument::of(&sums), Argument::Count(chunks)];
    launch("received", [tokens.div_ceil(TILE), 1, all_heads], &own)?;
    Ok(Some(sums))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn chunks_are_whole_tiles_that_cover_every_key_once(
            tokens in prop_oneof![1u32..2000, 1u32..5_000_000], queries in prop_oneof![1u32..100, 1u32..2_000_000],
        ) {
            let chunk = chunk(tokens, queries);
            let chunks = tokens.div_ceil(chunk);
            prop_assert!(chunk.is_multiple_of(TILE) && chunks <= BLOCKS && (chunks - 1) * chunk < tokens);
            // Many queries fill the GPU by themselves, and their states stay small.
            prop_assert!(u64::from(chunks) * u64::from(queries.div_ceil(TILE)) <= u64::from(BLOCKS.max(queries.div_ceil(TILE))));
        }
    }
}
