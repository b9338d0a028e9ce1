//! Opens a plugin and runs its first press a thousand times; `scripts/sanitize leaks` shows what is not freed.

use std::error::Error;
use std::path::PathBuf;

use pressroom_plugin_host::{Dtype, Frame, Instance, Layer, Layout, Lent, Library, LibraryFile, Part};

const TOKENS: i64 = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let path = PathBuf::from(std::env::args_os().nth(1).ok_or("name a library")?);
    let keys: Vec<f32> = (0..2 * TOKENS * 8).map(|index| (index % 17) as f32).collect();
    let queries: Vec<f32> = (0..4 * TOKENS * 8).map(|index| (index % 13) as f32).collect();
    let positions: Vec<i64> = (0..2 * TOKENS).map(|index| index % TOKENS).collect();
    let mut scores = vec![0f32; 2 * TOKENS as usize];
    let frame = Frame {
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
    for _ in 0..1000 {
        let library = Library::load(LibraryFile::open(&path, None)?)?;
        let press = library.presses().first().ok_or("the library has no press")?;
        let instance = Instance::create(press, "{}")?;
        let rows = i64::try_from(instance.needs()?.rotated_queries).unwrap_or(TOKENS).min(TOKENS);
        let tensor = |data: &[f32], heads, rows| {
            Lent::read_only(data.as_ptr().cast(), Layout::contiguous(Dtype::F32, &[1, heads, rows, 8]))
        };
        let places = Layout::contiguous(Dtype::I64, &[1, 2, TOKENS]);
        let parts = vec![
            (Part::Keys, tensor(&keys, 2, TOKENS)),
            (Part::Values, tensor(&keys, 2, TOKENS)),
            (Part::Positions, Lent::read_only(positions.as_ptr().cast(), places)),
            (Part::RotatedQueries, tensor(&queries, 4, rows)),
        ];
        let results = Layout::contiguous(Dtype::F32, &[1, 2, TOKENS]);
        instance.score(&Layer { frame, parts }, &Lent::writable(scores.as_mut_ptr().cast(), results))?;
    }
    println!("1000 times, the first score is {}", scores[0]);
    Ok(())
}
