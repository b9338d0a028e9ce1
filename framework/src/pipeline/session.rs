//! A session: one press at one ratio on one context.

use crate::cache::{KvCache, LayerCache};
use crate::error::{Error, Result};
use crate::hooks::AttentionHook;
use crate::press::{Needs, Pipeline};
use crate::view::LayerView;

/// What was kept of a layer: positions in the uncompressed context, `[kv head][kept]`.
pub type LayerDecision = Vec<Vec<i64>>;

/// Compresses a context while it is prefilled, and holds the compressed cache afterwards.
pub struct Session {
    pipeline: Pipeline,
    layers: Vec<LayerCache>,
    decisions: Vec<LayerDecision>,
    context_tokens: i64,
}

impl Session {
    /// A session that will compress with `pipeline`; the empty pipeline keeps everything.
    pub fn new(pipeline: Pipeline) -> Self {
        Self { pipeline, layers: Vec::new(), decisions: Vec::new(), context_tokens: 0 }
    }

    /// Positions kept, `[layer][kv head][kept]`.
    pub fn decisions(&self) -> &[LayerDecision] {
        &self.decisions
    }

    /// The compressed cache. Later tokens take positions from the *uncompressed* context length on.
    ///
    /// # Errors
    /// The session has not seen all `layers` layers.
    pub fn into_cache(self, layers: usize) -> Result<KvCache> {
        if self.layers.len() != layers {
            return Err(Error::input(format!("the session saw {} of {layers} layers", self.layers.len())));
        }
        Ok(KvCache::from_layers(self.layers, self.context_tokens))
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
        self.decisions.push(selection.to_lists(view.geometry().kv_heads as usize, view.tokens())?);
        self.layers.append(&mut LayerCache::compress(view.keys(), view.values(), &selection)?);
        self.context_tokens = view.context_tokens();
        Ok(())
    }
}
