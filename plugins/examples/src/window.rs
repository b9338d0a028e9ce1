//! What an observation window at the end of the context attends to.

use pressroom_plugin::ndarray::{Array2, ArrayView2, s};
use pressroom_plugin::{Result, View};

/// Refuses a context in which nothing would be left to choose from.
pub(crate) fn long_enough(view: &View<'_>, window: usize) -> Result {
    let tokens = view.context_tokens();
    if tokens > window {
        return Ok(());
    }
    Err(format!(
        "the context has {tokens} tokens and window_size = {window} of them are always kept; use a longer context or a \
         smaller window_size"
    )
    .into())
}

/// Causal attention weights of the last `window` queries of query head `head` over the entries of `keys`,
/// `[n, tokens]`: fewer while decoding, where only the queries of the last tokens are there.
pub(crate) fn attention(
    view: &View<'_>,
    keys: ArrayView2<'_, f32>,
    sequence: usize,
    head: usize,
    window: usize,
) -> Result<Array2<f32>> {
    let queries = view.rotated_queries()?.head(sequence, head);
    let count = queries.nrows().min(window);
    let queries = queries.slice(s![queries.nrows() - count.., ..]);
    let mut weights = queries.dot(&keys.t()) / (view.head_dim() as f32).sqrt();
    let positions = view.positions();
    let positions = positions.slice(s![sequence, head / view.group(), ..]);
    for (row, mut weights) in weights.rows_mut().into_iter().enumerate() {
        let position = view.context_end() - (count - row) as i64;
        let mut largest = f32::NEG_INFINITY;
        for (weight, entry) in weights.iter_mut().zip(&positions) {
            if *entry > position {
                *weight = f32::NEG_INFINITY;
            }
            largest = largest.max(*weight);
        }
        weights.mapv_inplace(|weight| (weight - largest).exp());
        let sum = weights.sum();
        weights.mapv_inplace(|weight| weight / sum);
    }
    Ok(weights)
}

/// Whether each entry of a KV head lies in the window.
pub(crate) fn inside(view: &View<'_>, sequence: usize, kv_head: usize, window: usize) -> Vec<bool> {
    let first = view.context_end() - window as i64;
    view.positions().slice(s![sequence, kv_head, ..]).iter().map(|position| *position >= first).collect()
}

/// Every KV head of every sequence.
pub(crate) fn heads(view: &View<'_>) -> impl Iterator<Item = (usize, usize)> {
    let kv_heads = view.kv_heads();
    (0..view.batch()).flat_map(move |sequence| (0..kv_heads).map(move |kv_head| (sequence, kv_head)))
}
