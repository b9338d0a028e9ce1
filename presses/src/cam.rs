//! `cam`: what is evicted while decoding lives on in the values of its neighbours.

use std::sync::Arc;

use pressroom::press::{
    Budget, Built, DecodingPress, Edits, Kept, Method, ModelFacts, Needs, Origin, Params, Range, Scorer, Selection,
    StepHook, StepView,
};
use pressroom::view::LayerView;
use pressroom::{Error, Result, error::During, random};
use tch::{Kind, Tensor};

use crate::interval::Interval;
use crate::running::Running;

pressroom::press! {
    /// Merges evicted values into their neighbours while an answer grows.
    ///
    /// # Idea
    /// Evicting a KV pair changes the attention's output. When the growing cache is compressed, as `decoding` does it,
    /// the best of the pairs evicted first add their value, in equal parts, to the next pairs that are kept. Whether
    /// one does is drawn by lot: the more attention it has received beside those neighbours, the likelier. KV heads
    /// keep the same positions: scores are averaged over them.
    ///
    /// # Formula
    /// `v_j += b_i v_i / m` for the next `m <= merge_budget` kept pairs `j` after an evicted pair `i`, with
    /// `b_i ~ Bernoulli(clamp(A_i / mean_j A_j, 0, 1))`, `A` being the attention received from each pass's last query,
    /// summed over the passes and averaged over the query group
    ///
    /// # Paper
    /// Zhang et al., "CaM: Cache Merging for Memory-efficient LLMs Inference", 2024,
    /// <https://openreview.net/forum?id=LCTmppB165>
    "cam" Decoding CamParams wraps(base_press: Scorer) budget(Own) {
        /// Passes through the model between two compressions; as many pairs are merged at most.
        compression_interval: usize = 512, Range::closed(1.0, 1e9);
        /// KV pairs per KV head that a compression leaves.
        target_size: usize = 2048, Range::closed(1.0, 1e9);
        /// Earlier tokens whose hidden states and queries the base press sees, beside those of the last pass.
        hidden_states_buffer_size: usize = 256, Range::closed(0.0, 1e9);
        /// Kept neighbours that an evicted value is spread over.
        merge_budget: usize = 32, Range::closed(1.0, 1e6);
        /// Seed of the lots, the same in every layer and compression. Absent: derived from the run's seed.
        seed: Option<u64> = None, Range::closed(0.0, 9_007_199_254_740_992.0);
    }
}

/// The press: parameters and the scorer it wraps.
#[derive(Clone)]
pub struct Cam {
    params: CamParams,
    scorer: Arc<dyn Scorer>,
}

impl Cam {
    /// Wraps a scorer.
    ///
    /// # Errors
    /// Bad parameters.
    pub fn build(params: &Params, mut inner: Vec<Built>) -> Result<Built> {
        let cam = Self { params: CamParams::from_params(params)?, scorer: inner.remove(0).into_scorer()? };
        Ok(Built::Method(Method::Phases { prefill: None, decoding: Arc::new(cam) }))
    }
}

impl DecodingPress for Cam {
    fn identity(&self) -> String {
        self.params.identity_around(&[self.scorer.identity()])
    }

    fn needs(&self) -> Needs {
        self.scorer.needs()
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.scorer.prepare(model)
    }

    fn start(&self, origin: Origin<'_>) -> Box<dyn StepHook + Send> {
        let running = Running::new(origin, self.scorer.needs(), self.params.hidden_states_buffer_size);
        let received = origin.positions.iter().map(|heads| heads.iter().map(|_| None).collect()).collect();
        Box::new(Merger { cam: self.clone(), running, received })
    }
}

/// Merges and evicts whenever the interval is over.
struct Merger {
    cam: Cam,
    running: Running,
    /// Attention that each entry has received, `[layer][kv head]`, float32 `[n]`.
    received: Vec<Vec<Option<Tensor>>>,
}

impl StepHook for Merger {
    fn on_layer(&mut self, step: &StepView<'_>) -> Result<Option<Selection>> {
        let passes = self.running.note(step)?;
        self.receive(step)?;
        let target = self.cam.params.target_size as i64;
        let interval = Interval {
            passes: self.cam.params.compression_interval,
            target: Budget::Tokens(self.cam.params.target_size),
            buffer: 0,
        };
        let longest = step.cache.lengths().into_iter().max().unwrap_or(0);
        if longest <= target && step.tokens() < target || !interval.is_over(passes, step) {
            return Ok(None);
        }
        let views = self.running.views(step)?;
        let received = &mut self.received[step.layer];
        let mut selections = Vec::with_capacity(views.len());
        let mut heads = received.iter_mut();
        for view in &views {
            let mut own: Vec<&mut Option<Tensor>> = heads.by_ref().take(view.geometry().kv_heads as usize).collect();
            let all = own.iter().flat_map(|head| head.as_ref()).collect::<Vec<_>>();
            let seed = self.cam.params.seed.unwrap_or_else(|| view.seed());
            let seed = if views.len() == 1 { seed } else { random::derive_seed(seed, selections.len() as u64) };
            let selection = self.cam.merge(view, &Tensor::f_stack(&all, 0)?, passes as i64, seed)?;
            if let Kept::Uniform(kept) = selection.kept() {
                let kept = kept.f_select(0, 0)?.f_select(0, 0)?;
                for head in &mut own {
                    **head = head.as_ref().map(|sums| sums.f_index_select(0, &kept)).transpose()?;
                }
            }
            selections.push(selection);
        }
        let selection = if views.len() == 1 { selections.remove(0) } else { Selection::join(&selections, &views)? };
        self.running.compressed(step, &selection)?;
        Ok((!matches!(selection.kept(), Kept::All)).then_some(selection))
    }
}

impl Merger {
    /// Adds what every entry receives from the last new token.
    fn receive(&mut self, step: &StepView<'_>) -> Result<()> {
        let queries = step.rotated_queries()?.f_mul_scalar(1.0 / (step.geometry.head_dim as f64).sqrt())?;
        let (group, last) = (step.geometry.group(), step.tokens() - 1);
        for (index, received) in self.received[step.layer].iter_mut().enumerate() {
            let query = queries.f_narrow(0, index as i64 * group, group)?.f_select(1, last)?;
            // Where they lie: joining prefix and tail would copy the cache at every pass.
            let mut logits = Vec::with_capacity(2);
            for keys in step.cache.keys_of(index)? {
                let product = query.f_to_kind(keys.kind())?.f_matmul(&keys.f_transpose(0, 1)?);
                logits.push(product.during("attention of a new token", &[&query, &keys])?);
            }
            let weights = Tensor::f_cat(&logits, 1)?.f_softmax(1, Kind::Float)?;
            let now = weights.f_mean_dim([0i64].as_slice(), false, Kind::Float)?;
            *received = Some(match received {
                Some(sums) => sums.f_constant_pad_nd([0, now.size()[0] - sums.size()[0]])?.f_add(&now)?,
                None => now,
            });
        }
        Ok(())
    }
}

impl Cam {
    /// Keeps the `target_size` best positions of all KV heads of a view, and merges the `most` best others by lot.
    /// `received` is the attention that each entry received, `[kv_heads, entries]`.
    fn merge(&self, view: &LayerView<'_>, received: &Tensor, most: i64, seed: u64) -> Result<Selection> {
        let (target, entries) = (self.params.target_size as i64, view.tokens());
        if entries <= target {
            return Ok(Selection::all());
        }
        let scores = view.scores(self.scorer.as_ref(), Budget::from_tokens(self.params.target_size)?)?;
        let scores = scores.f_mean_dim([0i64, 1].as_slice(), false, Kind::Float)?;
        let (_, order) = scores.f_sort_stable(true, 0, true)?;
        let sorted = |indices: &Tensor| Ok::<_, Error>(indices.f_sort(0, false)?.0);
        let kept = sorted(&order.f_narrow(0, 0, target)?)?;
        // Of equal scores the later positions are merged first.
        let evicted = sorted(&order.f_narrow(0, target, entries - target)?)?.f_flip([0])?;
        let (_, best) = scores.f_index_select(0, &evicted)?.f_sort_stable(true, 0, true)?;
        let merged = sorted(&evicted.f_index_select(0, &best.f_narrow(0, 0, most.min(entries - target))?)?)?;

        // Which kept entries (rows) each merged one (columns) goes to: the next after it.
        let before = kept.f_unsqueeze(1)?.f_lt_tensor(&merged.f_unsqueeze(0)?)?;
        let first = before.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Int64)?;
        let rank = Tensor::f_arange(target, (Kind::Int64, view.device()))?.f_unsqueeze(1)?;
        let behind = rank.f_lt_tensor(&first.f_add_scalar(self.params.merge_budget as i64)?)?;
        let neighbours = behind.f_logical_and(&before.f_logical_not()?)?.f_to_kind(Kind::Float)?;
        // At least 1: what has no neighbour goes nowhere.
        let count = neighbours.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Float)?.f_clamp_min(1.0)?;

        let around = received.f_index_select(1, &kept)?.f_matmul(&neighbours)?.f_div(&count)?;
        let odds = received.f_index_select(1, &merged)?.f_div(&around)?;
        let odds = odds.f_nan_to_num(0.0, 1.0, 0.0)?.f_clamp(0.0, 1.0)?;
        let part = random::bernoulli(seed, &odds)?.f_div(&count)?;
        let values = view.values().f_select(0, 0)?.f_to_kind(Kind::Float)?;
        let added = neighbours
            .f_mul(&part.f_unsqueeze(1)?)
            .and_then(|shares| shares.f_matmul(&values.f_index_select(1, &merged)?))
            .during("merging values", &[&neighbours, &part, &values])?;
        let values = values.f_index_select(1, &kept)?.f_add(&added)?.f_unsqueeze(0)?;
        let kept = kept.f_expand([1, view.geometry().kv_heads, -1], false)?;
        Ok(Selection::ascending(kept)?.with_edits(Edits { values: Some(values), ..Edits::default() }))
    }
}
