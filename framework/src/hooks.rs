//! Subscribers of the model's layers.

use crate::error::{Error, Result};
use crate::panics::caught;
use crate::press::Needs;
use crate::view::LayerView;

/// Something that looks at each layer after its attention: a press session, a statistics collector.
///
/// Any number of hooks share one forward pass. What they are shown is full: nothing that one does
/// changes what another sees.
pub trait AttentionHook {
    /// What it reads of `layer`; `None` where it is not interested in the layer.
    fn needs(&self, layer: usize) -> Option<Needs>;

    /// Called once per layer it is interested in, in the order of layers.
    ///
    /// # Errors
    /// An error ends this hook's subscription; the pass and the other hooks go on.
    fn on_layer(&mut self, view: &LayerView<'_>) -> Result<()>;
}

/// Calls a hook; a panic inside it becomes an error.
pub(crate) fn call(hook: &mut dyn AttentionHook, view: &LayerView<'_>) -> Result<()> {
    guard(view.layer(), &view.keys().size(), || hook.on_layer(view))
}

/// Runs what somebody else wrote on a layer; a panic inside it becomes an error.
pub(crate) fn guard<T>(layer: usize, keys: &[i64], run: impl FnOnce() -> Result<T>) -> Result<T> {
    // A hook that panicked is not called again, so whatever state it broke stays its own.
    caught(run).unwrap_or_else(|said| Err(Error::input(format!("layer {layer}: panicked on keys {keys:?}: {said}"))))
}
