//! Opens a plugin and runs all its presses a thousand times; `scripts/sanitize leaks` shows what is not freed.

use std::error::Error;
use std::ffi::c_void;
use std::path::PathBuf;

use pressroom_plugin_host::{Dtype, Frame, Instance, Layer, Layout, Lent, Library, LibraryFile, Part, RawBudget};

const TOKENS: i64 = 128;

/// Of 2 KV heads, each with 2 query heads of 8 channels.
const FRAME: Frame = Frame {
    phase: 1,
    layer: 0,
    layers: 1,
    batch: 1,
    heads: 4,
    kv_heads: 2,
    head_dim: 8,
    tokens: TOKENS,
    context_start: 0,
    context_end: TOKENS,
    seed: 0,
};

fn main() -> Result<(), Box<dyn Error>> {
    let path = PathBuf::from(std::env::args_os().nth(1).ok_or("name a library")?);
    let keys: Vec<f32> = (0..2 * TOKENS * 8).map(|index| (index % 17) as f32).collect();
    let queries: Vec<f32> = (0..4 * TOKENS * 8).map(|index| (index % 13) as f32).collect();
    let positions: Vec<i64> = (0..2 * TOKENS).map(|index| index % TOKENS).collect();
    let mut scores = vec![0f32; 2 * TOKENS as usize];
    let (mut counts, mut indices) = (vec![0i64; 2], vec![-1i64; 2 * TOKENS as usize]);
    let results = |data: *mut c_void, dtype, shape: &[i64]| Lent::writable(data, Layout::contiguous(dtype, shape));
    let mut calls = 0;
    for _ in 0..1000 {
        for press in Library::load(LibraryFile::open(&path, None)?)?.presses() {
            let instance = Instance::create(press, "{}")?;
            let needs = instance.needs()?;
            let tensor = |data: &[f32], heads, rows| {
                Lent::read_only(data.as_ptr().cast(), Layout::contiguous(Dtype::F32, &[1, heads, rows, 8]))
            };
            let last = |tokens| tensor(&queries, 4, i64::try_from(tokens).unwrap_or(TOKENS).min(TOKENS));
            let places = Layout::contiguous(Dtype::I64, &[1, 2, TOKENS]);
            let parts = vec![
                (Part::Keys, tensor(&keys, 2, TOKENS)),
                (Part::Values, tensor(&keys, 2, TOKENS)),
                (Part::Positions, Lent::read_only(positions.as_ptr().cast(), places)),
                (Part::Queries, last(needs.queries)),
                (Part::RotatedQueries, last(needs.rotated_queries)),
            ];
            let layer = Layer { frame: FRAME, parts };
            if press.description.is_scorer() {
                let scores = results(scores.as_mut_ptr().cast(), Dtype::F32, &[1, 2, TOKENS]);
                instance.score(&layer, &scores)?;
            } else {
                let budget = RawBudget { compression_ratio: 0.5, kept: TOKENS / 2 };
                let counts = results(counts.as_mut_ptr().cast(), Dtype::I64, &[1, 2]);
                let indices = results(indices.as_mut_ptr().cast(), Dtype::I64, &[1, 2, TOKENS]);
                instance.select(&layer, budget, &counts, &indices)?;
            }
            calls += 1;
        }
    }
    println!("loaded 1000 times, {calls} calls; the last of a scorer begins with {}", scores[0]);
    Ok(())
}
