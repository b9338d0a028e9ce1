//! Where a selector says what is kept.

use ndarray::{ArrayViewMut2, ArrayViewMut3};

use crate::Result;

/// The decision about one layer: for each KV head the entries that it keeps. Heads that are not mentioned keep nothing.
pub struct Selection<'a> {
    counts: ArrayViewMut2<'a, i64>,
    indices: ArrayViewMut3<'a, i64>,
}

impl<'a> Selection<'a> {
    /// Writes counts `[batch, kv_heads]` and indices `[batch, kv_heads, tokens]`.
    pub fn new(counts: ArrayViewMut2<'a, i64>, indices: ArrayViewMut3<'a, i64>) -> Self {
        Self { counts, indices }
    }

    /// Keeps `entries` of one KV head of one sequence, in any order; replaces what was said before.
    ///
    /// # Errors
    /// There is no such head, or an entry is named twice or does not exist.
    pub fn keep(&mut self, sequence: usize, kv_head: usize, entries: impl IntoIterator<Item = usize>) -> Result {
        let (sequences, kv_heads, tokens) = self.indices.dim();
        if sequence >= sequences || kv_head >= kv_heads {
            return Err(format!("KV head {kv_head} of sequence {sequence}: there are {sequences} x {kv_heads}").into());
        }
        let mut entries: Vec<usize> = entries.into_iter().collect();
        entries.sort_unstable();
        if let Some(last) = entries.last().filter(|last| **last >= tokens) {
            return Err(format!("KV head {kv_head} keeps entry {last} of {tokens}").into());
        }
        if let Some(pair) = entries.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("KV head {kv_head} keeps entry {} twice", pair[0]).into());
        }
        for (slot, entry) in entries.iter().enumerate() {
            self.indices[[sequence, kv_head, slot]] = *entry as i64;
        }
        self.counts[[sequence, kv_head]] = entries.len() as i64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3};

    use super::*;

    #[test]
    fn entries_are_sorted_and_mistakes_are_named() {
        let (mut counts, mut indices) = (Array2::zeros((1, 2)), Array3::from_elem((1, 2, 5), -1));
        let mut selection = Selection::new(counts.view_mut(), indices.view_mut());
        selection.keep(0, 1, [4, 0, 2]).unwrap();
        for (head, entries, expected) in
            [(2, vec![0], "KV head 2 of sequence 0"), (0, vec![5], "entry 5 of 5"), (0, vec![1, 1], "entry 1 twice")]
        {
            let error = selection.keep(0, head, entries).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(counts.as_slice().unwrap(), [0, 3]);
        assert_eq!(indices.as_slice().unwrap()[5..8], [0, 2, 4]);
    }
}
