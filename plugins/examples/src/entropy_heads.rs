//! `entropy_heads`: a head that looks everywhere needs more than one that looks at one place.

use pressroom_plugin::ndarray::Array1;
use pressroom_plugin::{Budget, Model, Needs, Result, Selection, Selector, Span, View, axis, warn};

use crate::window;

/// Shares a layer's budget among its KV heads by the entropy of their attention.
///
/// # Idea
/// The attention of an observation window is spread over many entries in some heads and on a few in others. Each head
/// gets a part of the budget in proportion to the perplexity of its attention (the number of entries it is spread
/// over), at least `floor` of an even share, and keeps what it attends to most. The window itself is always kept.
///
/// # Formula
/// `kept of head h = floor * n + (1 - floor) * n * kv_heads * exp(H_h) / sum of exp(H)`, `n` being the number per head
/// that the compression ratio leaves
///
/// # Paper
/// None as it is; spatial entropy as a measure of need is Qin et al.'s, who share among layers: "CAKE: Cascading and
/// Adaptive KV Cache Eviction with Layer Preferences", 2025, <https://arxiv.org/abs/2503.12491>
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct EntropyHeads {
    /// Tokens at the end of the context whose queries vote.
    #[schemars(range(min = 1, max = 1_000_000_000), extend("unit" = "tokens"))]
    window_size: usize,
    /// Fraction of an even share that every head gets.
    #[schemars(range(min = 0.0, max = 1.0))]
    floor: f64,
}

impl Default for EntropyHeads {
    fn default() -> Self {
        Self { window_size: 16, floor: 0.5 }
    }
}

impl Selector for EntropyHeads {
    const NAME: &'static str = "entropy_heads";
    const HEAD_WISE: bool = true;

    fn needs(&self) -> Needs {
        Needs { values: false, rotated_queries: Span::Last(self.window_size), ..Needs::default() }
    }

    fn prepare(&self, model: &Model) -> Result {
        if model.kv_heads == 1 {
            warn(&format!("entropy_heads shares among KV heads, and {} has one: nothing is shared", model.name));
        }
        Ok(())
    }

    fn select(&self, view: &View<'_>, budget: Budget, selection: &mut Selection<'_>) -> Result {
        window::long_enough(view, self.window_size)?;
        for sequence in 0..view.batch() {
            let mut attention = Vec::with_capacity(view.kv_heads());
            for kv_head in 0..view.kv_heads() {
                let keys = view.keys().head(sequence, kv_head);
                let mut votes = Array1::<f32>::zeros(view.tokens());
                for head in kv_head * view.group()..(kv_head + 1) * view.group() {
                    votes +=
                        &window::attention(view, keys.view(), sequence, head, self.window_size)?.sum_axis(axis::BATCH);
                }
                let sum = votes.sum();
                attention.push(votes / sum);
            }
            let shares = self.shares(&attention, budget.kept(), view.tokens());
            for (kv_head, (votes, share)) in attention.iter().zip(shares).enumerate() {
                let inside = window::inside(view, sequence, kv_head, self.window_size);
                let rank = |token: &usize| if inside[*token] { f32::INFINITY } else { votes[*token] };
                let mut order: Vec<usize> = (0..view.tokens()).collect();
                order.sort_by(|a, b| rank(b).total_cmp(&rank(a)).then(a.cmp(b)));
                selection.keep(sequence, kv_head, order.into_iter().take(share))?;
            }
        }
        Ok(())
    }
}

impl EntropyHeads {
    /// How many entries each head keeps; together `kept` per head.
    fn shares(&self, attention: &[Array1<f32>], kept: usize, tokens: usize) -> Vec<usize> {
        let spread: Vec<f64> = attention.iter().map(perplexity).collect();
        let total: f64 = spread.iter().sum();
        let all = kept * attention.len();
        let even = (kept as f64 * self.floor) as usize;
        let free = all - even * attention.len();
        let mut shares: Vec<usize> =
            spread.iter().map(|own| (even + (free as f64 * own / total) as usize).min(tokens)).collect();
        // What rounding and full heads have left goes to the others, one by one.
        let mut left = all - shares.iter().sum::<usize>();
        while left > 0 {
            for share in shares.iter_mut().filter(|share| **share < tokens).take(left) {
                *share += 1;
                left -= 1;
            }
        }
        shares
    }
}

/// The number of entries over which a distribution is spread: the exponential of its entropy.
fn perplexity(votes: &Array1<f32>) -> f64 {
    let entropy: f64 = votes.iter().filter(|vote| **vote > 0.0).map(|vote| f64::from(-vote * vote.ln())).sum();
    entropy.exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pressroom_plugin::ndarray::s;
    use pressroom_plugin::testing::Layer;

    #[test]
    fn the_head_that_looks_at_one_place_keeps_less() {
        let mut layer = Layer::random(80, 5);
        let query = layer.queries.slice(s![0, 0, 79, ..]).to_owned();
        for head in 0..2 {
            for token in 64..80 {
                layer.queries.slice_mut(s![0, head, token, ..]).assign(&query);
            }
        }
        layer.keys.slice_mut(s![0, 0, 9, ..]).assign(&(query * 20.0));
        let kept = layer.select(&EntropyHeads::default(), 0.5).unwrap();
        assert_eq!(kept[0].len() + kept[1].len(), 80);
        assert!(kept[0].len() < kept[1].len() && kept[0].contains(&9), "{kept:?}");
    }

    #[test]
    fn shares_add_up_even_where_a_head_is_full() {
        let flat = Array1::from_elem(10, 0.1);
        let press = EntropyHeads { window_size: 1, floor: 0.0 };
        for kept in 1..=10 {
            let shares = press.shares(&[flat.clone(), Array1::from_elem(10, 1e-9)], kept, 10);
            assert_eq!(shares.iter().sum::<usize>(), 2 * kept);
            assert!(shares.iter().all(|share| *share <= 10));
        }
    }
}
