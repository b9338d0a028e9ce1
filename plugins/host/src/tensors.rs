//! From the framework's view of a layer to the one that is lent: the same memory, nothing copied on the way.

use pressroom::error::During;
use pressroom::press::Span;
use pressroom::view::LayerView;
use pressroom::{Error, Result};
use pressroom_plugin_abi::{PRESSROOM_DECODING, PRESSROOM_PREFILL};
use tch::{Kind, Tensor};

use crate::instance::RawNeeds;
use crate::layer::{Dtype, Frame, Layer, Layout, Lent, Part};
use crate::place::Place;

/// A layer, and the tensors whose memory it lends.
pub(crate) struct Shown {
    pub(crate) layer: Layer,
    _tensors: Vec<Tensor>,
}

/// The number of last tokens of the interface as the framework's span.
pub(crate) fn span(tokens: u64) -> Span {
    match usize::try_from(tokens) {
        Ok(0) => Span::None,
        Ok(tokens) if tokens != usize::MAX => Span::Last(tokens),
        _ => Span::All,
    }
}

/// What `view` shows to a press with these `needs`, in memory of `place`.
///
/// # Errors
/// The view does not hold what is needed, or a tensor operation fails.
pub(crate) fn show(view: &LayerView<'_>, needs: &RawNeeds, place: Place) -> Result<Shown> {
    let geometry = view.geometry();
    let positions = view.positions()?.f_expand([view.batch(), geometry.kv_heads, view.tokens()], false)?;
    let mut tensors = vec![(Part::Positions, positions)];
    if needs.keys {
        tensors.push((Part::Keys, view.keys().shallow_clone()));
    }
    if needs.values {
        tensors.push((Part::Values, view.values().shallow_clone()));
    }
    if needs.queries > 0 {
        tensors.push((Part::Queries, view.queries(span(needs.queries))?));
    }
    if needs.rotated_queries > 0 {
        tensors.push((Part::RotatedQueries, view.rotated_queries(span(needs.rotated_queries))?));
    }
    if needs.attention > 0 {
        tensors.push((Part::Attention, view.attention(span(needs.attention))?));
    }
    if needs.hidden_states {
        tensors.push((Part::HiddenStates, view.hidden_states()?.shallow_clone()));
    }
    if needs.attention_sums {
        tensors.push((Part::AttentionSums, view.attention_sums()?.shallow_clone()));
    }
    if needs.output_projection {
        tensors.push((Part::OutputProjection, view.output_projection()?.shallow_clone()));
    }
    let frame = Frame {
        phase: if view.decoding() { PRESSROOM_DECODING } else { PRESSROOM_PREFILL },
        layer: view.layer() as u32,
        layers: geometry.layers as u32,
        batch: view.batch(),
        heads: geometry.heads,
        kv_heads: geometry.kv_heads,
        head_dim: geometry.head_dim,
        tokens: view.tokens(),
        context_start: view.context_end() - view.context_tokens(),
        context_end: view.context_end(),
        seed: view.seed(),
    };
    let mut parts = Vec::with_capacity(tensors.len());
    let mut held = Vec::with_capacity(tensors.len());
    for (part, tensor) in tensors {
        let tensor = tensor.f_to_device(place.device()).during("showing a tensor to a plugin", &[&tensor])?;
        parts.push((part, lend(&tensor, place, Lent::read_only)?));
        held.push(tensor);
    }
    Ok(Shown { layer: Layer { frame, parts }, _tensors: held })
}

/// Lends memory of `place` for results.
///
/// # Errors
/// The tensor is of a type that does not cross the interface.
pub(crate) fn lend_for_results(tensor: &Tensor, place: Place) -> Result<Lent> {
    lend(tensor, place, |data, layout| Lent::writable(data.cast_mut(), layout))
}

fn lend(tensor: &Tensor, place: Place, how: impl FnOnce(*const std::ffi::c_void, Layout) -> Lent) -> Result<Lent> {
    let dtype = match tensor.f_kind()? {
        Kind::Float => Dtype::F32,
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::Bf16,
        Kind::Int64 => Dtype::I64,
        other => return Err(Error::input(format!("tensors of type {other:?} cannot be shown to a plugin"))),
    };
    let layout = Layout { dtype, shape: tensor.size(), strides: tensor.stride() };
    Ok(place.name(how(tensor.data_ptr(), layout)))
}
