//! `headkv`: heads that retrieve keep more.

use std::collections::BTreeMap;
use std::sync::Arc;

use pressroom::press::{Budget, ModelFacts, Needs, Params, Press, Range, Scorer, Selection, SideData};
use pressroom::{Result, view::LayerView};
use tch::{Kind, Tensor};

use crate::adakv::best_of_each_head;
use crate::prepared::Prepared;

pressroom::press! {
    /// Gives every head of the model a budget of its own, by how well it retrieves.
    ///
    /// # Idea
    /// Few heads fetch what a question asks for, and they are the same in every context. Their importance is measured
    /// once, by what they attend to while answering needle questions. Every head has a small even budget; the rest of
    /// all layers' budgets is one pool, shared out in proportion to importance. Within a head the wrapped scorer
    /// decides (the paper has `snapkv`), and what it always keeps is left out of the sharing. A KV head is as
    /// important as its query heads together. What exceeds the context goes to other heads.
    ///
    /// # Formula
    /// `kept_h = always + (1 - 1 / beta) b + share_h * (b / beta) * layers * kv_heads`, `b` being the number that the
    /// compression ratio leaves per head beside those always kept
    ///
    /// # Paper
    /// Fu et al., "Not All Heads Matter: A Head-Level KV Cache Compression Method with Integrated Retrieval and
    /// Reasoning", 2024, <https://arxiv.org/abs/2410.19258>
    "headkv" Press HeadKvParams wraps(press: Scorer) {
        /// The part `1 / beta` of the budget is shared out by importance: the larger, the more even.
        beta: f64 = 1.2, Range::at_least(1.0);
        /// Folder of a JSON file of scores of every query head, `{"LAYER-HEAD": [scores, ..]}`, as the paper's authors
        /// and those of the retrieval heads publish them. Absent: what `pressroom calibrate headkv` made.
        side_data: Option<String> = None, Range::ANY;
    }
}

/// The press: parameters, the scorer it wraps, and the importance of the model's heads.
pub struct HeadKv {
    params: HeadKvParams,
    scorer: Arc<dyn Scorer>,
    /// Shares of the KV heads of all layers, layer after layer, at sum 1.
    shares: Prepared<Vec<f64>>,
}

impl HeadKv {
    /// Wraps `scorer`.
    ///
    /// # Errors
    /// Bad parameters.
    pub fn new(params: &Params, scorer: Arc<dyn Scorer>) -> Result<Self> {
        Ok(Self { params: HeadKvParams::from_params(params)?, scorer, shares: Prepared::default() })
    }

    fn read(&self, model: &ModelFacts) -> Result<Vec<f64>> {
        let data = SideData::open("headkv", self.params.side_data.as_deref(), model)?;
        let file = data.only("json")?;
        let measured: BTreeMap<String, Vec<f64>> = data.json(&file)?;
        let (heads, group) = (model.geometry.heads, model.geometry.group() as usize);
        let importance = |layer: usize, head: i64| {
            let scores = measured.get(&format!("{layer}-{head}")).filter(|scores| !scores.is_empty());
            let scores = scores.ok_or_else(|| data.bad(&file, &format!("holds no scores of head {layer}-{head}")))?;
            Ok((scores.iter().sum::<f64>() / scores.len() as f64).max(0.0))
        };
        let all = (0..model.geometry.layers).flat_map(|layer| (0..heads).map(move |head| (layer, head)));
        let all = all.map(|(layer, head)| importance(layer, head)).collect::<Result<Vec<_>>>()?;
        let total: f64 = all.iter().sum();
        if !total.is_finite() || total == 0.0 {
            return Err(data.bad(&file, "holds no score above zero, or one that is not finite"));
        }
        Ok(all.chunks(group).map(|group| group.iter().sum::<f64>() / total).collect())
    }

    /// KV pairs that each KV head of every layer keeps of `tokens`, of which the scorer keeps `always` in any case.
    fn kept(&self, shares: &[f64], budget: Budget, tokens: i64, always: i64) -> Vec<i64> {
        let kept = budget.kept(tokens);
        let least = always.clamp(1, kept);
        let free = (kept - least) as f64;
        let even = free * (1.0 - 1.0 / self.params.beta);
        let parts = allot(shares, even, free * shares.len() as f64, (tokens - least) as f64);
        // Rounded so that the sum is kept.
        let mut before = 0.0f64;
        let rounded = parts.into_iter().map(|part| {
            let start = before.round_ties_even();
            before += part;
            least + (before.round_ties_even() - start) as i64
        });
        rounded.collect()
    }
}

impl Press for HeadKv {
    fn identity(&self) -> String {
        let params = self.params.identity();
        format!("{}, press={})", params.trim_end_matches(')'), self.scorer.identity())
    }

    fn needs(&self) -> Needs {
        self.scorer.needs()
    }

    fn head_wise(&self) -> bool {
        true
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.shares.prepare(model, || self.read(model))?;
        self.scorer.prepare(model)
    }

    fn select(&self, view: &LayerView<'_>, budget: Budget) -> Result<Selection> {
        let tokens = view.tokens();
        if budget.keeps_all(tokens) {
            return Ok(Selection::all());
        }
        let scores = view.scores(self.scorer.as_ref(), budget)?;
        let always = scores.f_isposinf()?.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Int64)?;
        let always = always.f_min()?.f_int64_value(&[])?;
        let all = self.shares.with(|shares| Ok(self.kept(shares, budget, tokens, always)))?;
        let all = Tensor::f_from_slice(&all)?.f_view([view.geometry().layers as i64, -1])?;
        let kept: Vec<i64> = view.own_heads(&all.f_select(0, view.layer() as i64)?, 0)?.try_into()?;
        let kept = kept.repeat(view.batch() as usize);
        Selection::from_mask(&best_of_each_head(&scores, &kept)?)
    }
}

/// Shares out `total`: `even` to each, the rest in proportion to `shares`, to none more than `most`; what is cut off
/// goes to the others in the same proportion.
fn allot(shares: &[f64], even: f64, total: f64, most: f64) -> Vec<f64> {
    let mut parts = vec![most; shares.len()];
    let mut open: Vec<usize> = (0..shares.len()).collect();
    let mut left = total;
    while !open.is_empty() {
        let weight: f64 = open.iter().map(|&head| shares[head]).sum();
        let pool = left - even * open.len() as f64;
        let part = |head: usize| match weight > 0.0 {
            true => even + pool * shares[head] / weight,
            false => even + pool / open.len() as f64,
        };
        let full = open.iter().filter(|&&head| part(head) >= most).count();
        if full == 0 {
            open.iter().for_each(|&head| parts[head] = part(head));
            break;
        }
        let still_open = open.iter().copied().filter(|&head| part(head) < most).collect();
        left -= most * full as f64;
        open = still_open;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn all_that_there_is_to_share_is_shared(
            weights in proptest::collection::vec(0.0f64..1.0, 1..40), most in 1.0f64..100.0, filled in 0.0f64..1.0, beta in 1.0f64..10.0,
        ) {
            let sum: f64 = weights.iter().sum();
            prop_assume!(sum > 0.0);
            let shares: Vec<f64> = weights.iter().map(|weight| weight / sum).collect();
            let each = most * filled;
            let even = each * (1.0 - 1.0 / beta);
            let parts = allot(&shares, even, each * shares.len() as f64, most);
            let total: f64 = parts.iter().sum();
            prop_assert!((total - each * shares.len() as f64).abs() < 1e-6 * total.max(1.0), "{total}");
            prop_assert!(parts.iter().all(|part| *part <= most + 1e-9 && *part >= even - 1e-9));
            for (share, part) in shares.iter().zip(&parts) {
                prop_assert!(shares.iter().zip(&parts).all(|(less, fewer)| less > share || *fewer <= part + 1e-9));
            }
        }
    }
}
