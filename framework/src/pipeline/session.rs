//! A session: one press at one ratio on one context.

use std::sync::Arc;

use tch::Tensor;

use crate::cache::{KvCache, LayerCache};
use crate::error::{Error, Result};
use crate::hooks::AttentionHook;
use crate::press::{DecodingPress, Needs, Origin, Pipeline, Selection, StepHook};
use crate::view::LayerView;

/// What was kept of a layer: positions in the uncompressed context, `[kv head][kept]`.
pub type LayerDecision = Vec<Vec<i64>>;

/// Compresses a context while it is prefilled.
pub struct Session {
    pipeline: Pipeline,
    layers: Vec<LayerCache>,
    decisions: Vec<LayerDecision>,
    decoding: Option<Decoding>,
    /// Position of the next token.
    end: i64,
}

/// What goes on compressing while answers grow, and what it knows of the context.
pub struct Decoding {
    press: Arc<dyn DecodingPress>,
    /// By layer, where keys stand that were moved.
    moved: Vec<Option<LayerDecision>>,
    /// By layer, what the press remembers.
    observed: Vec<Option<Tensor>>,
    seed: u64,
}

/// A compressed context, ready for questions.
pub struct Compressed {
    /// The cache. Later tokens take positions from the *uncompressed* context length on, unless the press moved keys.
    pub cache: KvCache,
    /// Positions kept, `[layer][kv head][kept]`.
    pub decisions: Vec<LayerDecision>,
    /// What goes on compressing while answers grow.
    pub decoding: Option<Decoding>,
}

impl Decoding {
    fn new(press: Arc<dyn DecodingPress>, seed: u64) -> Self {
        Self { press, moved: Vec::new(), observed: Vec::new(), seed }
    }

    fn observe(&mut self, view: &LayerView<'_>, selection: &Selection) -> Result<()> {
        self.observed.push(self.press.observe(view)?);
        self.moved.push(selection.moved_to()?);
        self.seed = view.seed();
        Ok(())
    }
}

impl Session {
    /// A session that will compress with `pipeline`; the empty pipeline keeps everything.
    pub fn new(pipeline: Pipeline) -> Self {
        let decoding = pipeline.decoding().map(|press| Decoding::new(press.clone(), 0));
        Self { pipeline, layers: Vec::new(), decisions: Vec::new(), decoding, end: 0 }
    }

    /// Positions kept so far, `[layer][kv head][kept]`.
    pub fn decisions(&self) -> &[LayerDecision] {
        &self.decisions
    }

    /// The compressed context.
    ///
    /// # Errors
    /// The session has not seen all `layers` layers.
    pub fn finish(self, layers: usize) -> Result<Compressed> {
        if self.layers.len() != layers {
            return Err(Error::input(format!("the session saw {} of {layers} layers", self.layers.len())));
        }
        let cache = KvCache::from_layers(self.layers, self.end);
        Ok(Compressed { cache, decisions: self.decisions, decoding: self.decoding })
    }
}

impl AttentionHook for Session {
    fn needs(&self, _layer: usize) -> Option<Needs> {
        Some(self.pipeline.needs())
    }

    fn on_layer(&mut self, view: &LayerView<'_>) -> Result<()> {
        if view.batch() != 1 {
            return Err(Error::input(format!("a session compresses one context, not a batch of {}", view.batch())));
        }
        let selection = self.pipeline.select(view)?;
        if let Some(decoding) = &mut self.decoding {
            decoding.observe(view, &selection)?;
        }
        self.decisions.push(selection.to_lists(view.geometry().kv_heads as usize, view.tokens())?);
        for layer in view.compress(&selection)? {
            self.layers.push(self.pipeline.store(layer)?);
        }
        self.end = match &selection.edits().positions {
            Some(positions) => self.end.max(positions.f_max()?.f_int64_value(&[])? + 1),
            None => view.context_end(),
        };
        Ok(())
    }
}

impl Compressed {
    /// What compresses while an answer to one question grows, if anything does.
    pub fn start(&self) -> Option<Box<dyn StepHook + Send>> {
        let decoding = self.decoding.as_ref()?;
        let stands = |(layer, kept): (usize, &LayerDecision)| {
            decoding.moved.get(layer).and_then(Option::as_ref).unwrap_or(kept).clone()
        };
        let positions: Vec<LayerDecision> = self.decisions.iter().enumerate().map(stands).collect();
        Some(decoding.press.start(Origin { positions: &positions, observed: &decoding.observed, seed: decoding.seed }))
    }

    /// The fraction of the KV pairs of a context of `tokens` tokens that was removed, over all layers and heads.
    pub fn achieved_ratio(&self, tokens: usize) -> f64 {
        let lengths = self.cache.lengths();
        let full = lengths.iter().map(Vec::len).sum::<usize>() * tokens;
        1.0 - lengths.iter().flatten().sum::<i64>() as f64 / full.max(1) as f64
    }

    /// What `selections`, one for each layer, leave of the full cache of a context, stored as `pipeline` says: perhaps
    /// nothing of a layer.
    ///
    /// # Errors
    /// A selection does not fit its layer, or nothing at all is kept.
    pub(super) fn from_selections(
        full: &KvCache,
        selections: &[Selection],
        pipeline: &Pipeline,
        seed: u64,
    ) -> Result<Self> {
        let (mut layers, mut decisions) = (Vec::new(), Vec::new());
        for (index, (layer, selection)) in full.layers().iter().zip(selections).enumerate() {
            let lengths = layer.lengths();
            let entries = lengths.iter().copied().min().unwrap_or(0);
            selection
                .check_fit(1, lengths.len() as i64, entries)
                .map_err(|error| Error::input(format!("layer {index}: {error}")))?;
            decisions.push(selection.to_lists(lengths.len(), entries)?);
            layers.push(pipeline.store(layer.select(selection)?)?);
        }
        if decisions.iter().flatten().all(Vec::is_empty) {
            return Err(Error::input("nothing at all is kept of any layer"));
        }
        let decoding = pipeline.decoding().map(|press| Decoding::new(press.clone(), seed));
        Ok(Self { cache: KvCache::from_layers(layers, full.position()), decisions, decoding })
    }
}
