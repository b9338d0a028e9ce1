//! `dms`: scores below a threshold are evicted when they leave the window.

use std::collections::VecDeque;
use std::sync::Arc;

use pressroom::press::{
    Budget, Built, DecodingPress, Method, ModelFacts, Needs, Origin, Params, Press, Range, Scorer, Selection, Span,
    StepHook, StepView,
};
use pressroom::view::{LayerView, Materialised};
use pressroom::{Error, Result, random::derive_seed};
use tch::Tensor;

pressroom::press! {
    /// Evicts what scores below a threshold, outside a sliding window.
    ///
    /// # Idea
    /// Each KV pair is scored once, when it is computed, and stays while it is one of the most recent. When it leaves
    /// that window it is evicted if its score is below the threshold. How much is kept so depends on the text; heads
    /// keep different numbers. Dense prefill, without the trained evictors of the paper: another press's scores decide.
    ///
    /// # Formula
    /// `kept = the last sliding_window_size tokens, and all others whose score is at least threshold`
    ///
    /// # Paper
    /// Łańcucki et al., "Inference-Time Hyper-Scaling with KV Cache Compression", 2025,
    /// <https://arxiv.org/abs/2506.05345>
    "dms" Press DmsParams wraps(press: Scorer) budget(Own) {
        /// Lowest score that is kept outside the window. It has to be given: what is low depends on the scorer.
        threshold: Option<f64> = None, Range::ANY;
        /// Tokens at the end that are not evicted.
        sliding_window_size: usize = 128, Range::closed(1.0, 1e9);
        /// Whether pairs are evicted while an answer grows too, not during the prefill alone.
        decoding: bool = false, Range::ANY;
    }
}

/// The press: parameters and the scorer it wraps.
#[derive(Clone)]
pub struct Dms {
    params: DmsParams,
    threshold: f64,
    scorer: Arc<dyn Scorer>,
}

impl Dms {
    /// Wraps a scorer, for one phase or both.
    ///
    /// # Errors
    /// Bad parameters; there is no threshold.
    pub fn build(params: &Params, mut inner: Vec<Built>) -> Result<Built> {
        let params = DmsParams::from_params(params)?;
        let threshold = params.threshold.ok_or_else(|| {
            Error::input(
                "`dms` needs a `threshold`: the lowest score of its scorer that is kept, as in threshold = -4.0",
            )
        })?;
        let both = params.decoding;
        let scorer = inner.remove(0).into_scorer()?;
        let needs = scorer.needs();
        if both && (needs.attention != Span::None || needs.attention_sums) {
            let scorer = scorer.identity();
            return Err(Error::input(format!(
                "{scorer} reads attention weights, which new tokens have not received yet"
            )));
        }
        let dms = Arc::new(Self { params, threshold, scorer });
        Ok(Built::Method(match both {
            false => Method::Layer(dms),
            true => Method::Phases { prefill: Some(dms.clone()), decoding: dms },
        }))
    }

    fn described(&self) -> String {
        self.params.identity_around(&[self.scorer.identity()])
    }
}

impl Press for Dms {
    fn identity(&self) -> String {
        self.described()
    }

    fn needs(&self) -> Needs {
        self.scorer.needs()
    }

    fn head_wise(&self) -> bool {
        true
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.scorer.prepare(model)
    }

    fn select(&self, view: &LayerView<'_>, _budget: Budget) -> Result<Selection> {
        let scores = view.scores(self.scorer.as_ref(), Budget::ALL)?;
        let kept = scores.f_ge(self.threshold)?.f_logical_or(&view.last(self.params.sliding_window_size)?)?;
        Selection::from_mask(&kept)
    }
}

impl DecodingPress for Dms {
    fn identity(&self) -> String {
        self.described()
    }

    fn needs(&self) -> Needs {
        self.scorer.needs()
    }

    fn prepare(&self, model: &ModelFacts) -> Result<()> {
        self.scorer.prepare(model)
    }

    /// Scores of the tokens in the window, `[kv_heads, n]`: they may be evicted later.
    fn observe(&self, view: &LayerView<'_>) -> Result<Option<Tensor>> {
        let scores = view.scores(self.scorer.as_ref(), Budget::ALL)?.f_squeeze_dim(0)?;
        let window = Span::Last(self.params.sliding_window_size).of(view.tokens());
        Ok(Some(scores.f_narrow(1, view.tokens() - window, window)?.f_contiguous()?))
    }

    fn start(&self, origin: Origin<'_>) -> Box<dyn StepHook + Send> {
        let layers = origin.positions.iter().zip(origin.observed);
        let windows = layers.map(|(kept, scores)| Window::new(kept, scores.as_ref())).collect();
        Box::new(Evictor { dms: self.clone(), windows, seed: origin.seed })
    }
}

/// One layer of a sequence: what waits to leave the window.
struct Window {
    /// What the prefill left: positions, and the scores of the window, `[kv_heads, n]`. Taken by the first pass.
    left: Option<(Vec<Vec<i64>>, Option<Tensor>)>,
    /// Position and score of the last entries of each KV head.
    heads: Vec<VecDeque<(i64, f32)>>,
}

impl Window {
    fn new(kept: &[Vec<i64>], scores: Option<&Tensor>) -> Self {
        Self {
            left: Some((kept.to_vec(), scores.map(Tensor::shallow_clone))),
            heads: vec![VecDeque::new(); kept.len()],
        }
    }

    /// Adds the scores, `[kv_heads, n]`, of the tokens from position `start` on, as far as there are entries of them.
    fn add(&mut self, start: i64, scores: &Tensor, is_there: impl Fn(usize, i64) -> bool) -> Result<()> {
        let scores: Vec<Vec<f32>> = Vec::try_from(scores)?;
        for (index, (head, scores)) in self.heads.iter_mut().zip(scores).enumerate() {
            head.extend((start..).zip(scores).filter(|(position, _)| is_there(index, *position)));
        }
        Ok(())
    }

    /// Takes out what is older than position `start`; gives the entries to evict of the `lengths` that the heads hold.
    fn leave(&mut self, start: i64, threshold: f64, lengths: &[i64]) -> Vec<Vec<i64>> {
        let heads = self.heads.iter_mut().zip(lengths);
        heads
            .map(|(head, length)| {
                let first = length - head.len() as i64;
                let leaving = head.iter().take_while(|(position, _)| *position < start).count();
                let scored = (first..).zip(head.drain(..leaving));
                scored.filter(|(_, (_, score))| f64::from(*score) < threshold).map(|(entry, _)| entry).collect()
            })
            .collect()
    }
}

/// Evicts what leaves the window.
struct Evictor {
    dms: Dms,
    windows: Vec<Window>,
    seed: u64,
}

impl Evictor {
    /// Scores of the new tokens alone, `[kv_heads, n]`.
    fn scores(&self, step: &StepView<'_>) -> Result<Tensor> {
        let (keys, values) = step.cache.appended()?;
        let new = |data: &Tensor| data.f_narrow(1, data.size()[1] - step.tokens(), step.tokens())?.f_unsqueeze(0);
        let parts = Materialised {
            hidden_states: Some(step.hidden_states.f_unsqueeze(0)?),
            queries: Some(step.queries.f_unsqueeze(0)?),
            output_projection: Some(step.output_projection.shallow_clone()),
            ..Materialised::default()
        };
        let view = LayerView::new(step.layer, step.geometry, new(&keys)?, new(&values)?, parts, step.rotary)?;
        let view = view.starting_at(step.position).with_seed(derive_seed(self.seed, step.position as u64));
        Ok(view.scores(self.dms.scorer.as_ref(), Budget::ALL)?.f_squeeze_dim(0)?)
    }
}

impl StepHook for Evictor {
    fn on_layer(&mut self, step: &StepView<'_>) -> Result<Option<Selection>> {
        let scores = self.scores(step)?;
        let window = self.windows.get_mut(step.layer);
        let window = window.ok_or_else(|| Error::input(format!("the context has no layer {}", step.layer)))?;
        if let Some((kept, Some(left))) = window.left.take() {
            let known = |head: usize, position: i64| kept[head].binary_search(&position).is_ok();
            window.add(step.position - left.size()[1], &left, known)?;
        }
        window.add(step.position, &scores, |_, _| true)?;
        let lengths = step.cache.lengths();
        let evicted =
            window.leave(step.end() - self.dms.params.sliding_window_size as i64, self.dms.threshold, &lengths);
        if evicted.iter().all(Vec::is_empty) {
            return Ok(None);
        }
        let kept = |(evicted, length): (&Vec<i64>, &i64)| {
            (0..*length).filter(|entry| evicted.binary_search(entry).is_err()).collect()
        };
        let kept: Vec<Vec<i64>> = evicted.iter().zip(&lengths).map(kept).collect();
        Ok(Some(Selection::from_lists(&kept, step.queries.device())?))
    }
}
