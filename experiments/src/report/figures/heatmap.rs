//! Scores of presses by length of the context and depth of what is asked for.

use std::collections::BTreeSet;

use crate::report::Row;

/// A grid for each press: lengths beside each other, depths from the start to the end in each.
pub struct Heatmap {
    /// Lengths of contexts, tokens.
    pub lengths: Vec<u64>,
    /// Label and scores `[length][depth tenth]`; absent where no sample lies.
    pub rows: Vec<(String, Vec<[Option<f64>; 10]>)>,
}

impl Heatmap {
    /// Of rows whose tasks tell where what is asked for lies; `None` if none does.
    pub fn of(rows: &[&Row]) -> Option<Self> {
        let lengths: BTreeSet<u64> = rows.iter().flat_map(|row| row.by_place.keys().map(|place| place.0)).collect();
        let grid = |row: &&Row| {
            let scores = |length: &u64| {
                std::array::from_fn(|depth| row.by_place.get(&(*length, depth as u64)).map(|(score, _)| *score))
            };
            (row.cell.press.clone(), lengths.iter().map(scores).collect())
        };
        let rows = rows.iter().map(grid).collect();
        (!lengths.is_empty()).then(|| Self { lengths: lengths.into_iter().collect(), rows })
    }
}
